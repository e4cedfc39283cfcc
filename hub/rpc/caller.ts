/** Who makes a call, and from where: what the dispatcher, the relay and the audit log know of an operator. */
import type { Principal } from '../auth/principal.ts';

export interface Caller {
  readonly principal: Principal;
  readonly address: string;
}
