/**
 * A start that goes on from a saved guest instead of from the reset vector. `launch` does with it what it does without, and besides:
 *
 *     RAM as `ram` says → spawn with `-incoming defer` → QMP session → `load` → `commit` → `cont` (or not: `then`)
 *
 * Until `commit` begins a failure leaves what was saved as it is, to be tried again; from there on it is the guest's crash.
 */
import type { CommandLimits } from '../live-vm.ts';
import type { Session } from '../session.ts';

/** What QEMU maps as guest RAM. */
export type IncomingRam =
  /** As at any start: empty, and filled by `load`. */
  | { readonly kind: 'fresh' }
  /** The VM's own file, as it is there. */
  | { readonly kind: 'kept' }
  /** A file of somebody else, copy on write: what the guest writes is the process's own. */
  | { readonly kind: 'private'; readonly file: string };

export interface Incoming {
  readonly ram: IncomingRam;
  /** Fills a QEMU that waits. It is paused afterwards. */
  load(session: Session, limits: CommandLimits): Promise<void>;
  /** After the load, before the guest runs. */
  commit?(): Promise<void>;
  /** Whether the guest runs afterwards. */
  readonly then: 'run' | 'pause';
}
