/**
 * A start that goes on from a saved guest instead of from the reset vector. `launch` does with it what it does without, and besides:
 *
 *     RAM as `ram` says → spawn with `-incoming defer` → QMP session, `prepare` (side by side) → `load` → `commit`, `meanwhile` (side by side)
 *     → `cont` (or not: `after`)
 *
 * Until `commit` begins a failure leaves what was saved as it is, to be tried again; from there on it is the guest's crash.
 */
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { Session } from '../session.ts';
import type { ProcessRecord } from '../store.ts';

/** What QEMU maps as guest RAM. */
export type IncomingRam =
  /** As at any start: empty, and filled by `load`. */
  | { readonly kind: 'fresh' }
  /** The VM's own file, as it is there. */
  | { readonly kind: 'kept' }
  /** A file of somebody else, copy on write: what the guest writes is the process's own. */
  | { readonly kind: 'private'; readonly file: string };

/** What of a machine its spec does not say: it was settled when the guest was first started, and stays so. */
export interface MachineFacts {
  /** With its version, such as `pc-q35-7.2`. */
  readonly machine: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** PCIe ports for devices that come and go. */
  readonly ports: number;
}

export interface Incoming {
  readonly ram: IncomingRam;
  /** Default: as for a first start. */
  readonly facts?: MachineFacts | undefined;
  /**
   * Whether what was saved goes into that machine, and what can be done of `commit` ahead; there is nothing of the guest in the process yet.
   * @throws FairleadError UNSUPPORTED with what differs.
   */
  prepare?(process: ProcessRecord, generation: number): Promise<void>;
  /** Fills a QEMU that waits. It is paused afterwards. */
  load(session: Session, limits: CommandLimits): Promise<void>;
  /**
   * After the load, before the guest runs. Where there is one, the record stays as it is until then, and it is what records the process:
   * an agent that dies before finds a process that nobody knows of, and what was saved.
   */
  commit?(): Promise<void>;
  /** What else the guest is to find when it runs. */
  meanwhile?(session: Session, limits: CommandLimits): Promise<void>;
  /** The guest had to let go of it before it was saved. It is made ready with the rest, for `meanwhile` to plug in, and where that fails not missed. */
  readonly vsock?: VmSpec['vsock'];
  /** Whether the guest runs afterwards. */
  readonly after: 'run' | 'pause';
}

/** A start of a VM from a saved guest, in the machine of that guest, made ready by restoration.ts. */
export interface Restoration {
  readonly spec: VmSpec;
  readonly incoming: Incoming;
  /** After a start that failed. Never rejects. */
  undo(): Promise<void>;
  /** After one that did not: what the VM had before goes. Never rejects. */
  done(): Promise<void>;
}
