import type { Principal } from '../auth/principal.ts';

/** Who makes a call, and from where. */
export interface Caller {
  readonly principal: Principal;
  readonly address: string;
}
