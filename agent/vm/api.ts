/**
 * What the rest of the agent may ask of its VMs. `VmManager` (manager.ts) is the implementation; handlers and the HTTP endpoint depend
 * on these types alone, so that they can be tested with a fake.
 *
 * Every call takes `{signal, timeoutMs}`. When the signal fires or the time is over, the call ends with CANCELLED or TIMEOUT and what it
 * had begun is undone or carried to a state that the next call can deal with; it is never left half done in silence.
 */
import type { Params, Result } from '../../shared/protocol/methods.ts';
import type { HostInfo } from '../../shared/protocol/methods-host.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import type { VmEvent } from '../../shared/protocol/vm-events.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { VsockTransport } from '../streams/transport.ts';
import type { CallOptions, Logger, VmObserver } from './common.ts';
import type { Deadline } from './deadline.ts';
import type { GuestPorts } from './guest-ports/guest-ports.ts';
import type { LiveVm, Operation, RestingVm } from './live-vm.ts';
import type { LogInUse } from './logs/log-keeper.ts';
import type { OpenedStream } from './open-stream.ts';
import type { Restoration } from './snapshot/incoming.ts';
import type { FileOwner } from './snapshot/ram-file.ts';
import type { Durability } from './snapshot/suspension.ts';
import type { VmPaths } from './store.ts';

export type { CallOptions, Logger, OpenedStream, VmObserver };

export interface VmLimits {
  /** VMs that may be registered on the host at once. */
  readonly maxVms: number;
  /** Streams into one guest at once. */
  readonly maxStreamsPerVm: number;
}

export interface VmPolicy {
  /** QMP commands that `vm.qmp` may send; `'*'` allows all. */
  readonly qmpCommands: readonly string[];
  /** By default all. */
  readonly accelerators?: readonly ('kvm' | 'tcg')[] | undefined;
  /** Asked at each start, before QEMU is spawned and once more when it has opened its files: throws for what the host does not allow. */
  readonly checkSpec?: ((spec: VmSpec) => Promise<void>) | undefined;
}

/** The vsock transport of the host, or why there is none. */
export type HostVsock =
  | { readonly available: true; readonly transport: VsockTransport }
  | { readonly available: false; readonly reason: string };

export type LogSource = Params<'vm.logs'>['source'];

export type EventsResult = Result<'vm.events'>;
export type EventsQuery = Pick<Params<'vm.events'>, 'vm' | 'since' | 'epoch'> & { readonly limit?: number | undefined };

export interface VmEvents {
  /** Sequence numbers are comparable within one epoch only; it changes when the log on disk was lost. */
  readonly epoch: string;
  readonly lastSeq: number;
  query(query: EventsQuery): EventsResult;
  /**
   * Events after `since` of this epoch (default: from now on), those in the log first, without a gap or a repeat. Ends when the signal fires. A
   * follower that falls behind by more than the log holds ends with LIMIT_EXCEEDED.
   */
  follow(options: { vm?: string | undefined; since?: number | undefined; signal: AbortSignal }): AsyncIterable<VmEvent>;
  /** Called in order with each event as it happens; must not throw. Disposing ends it. */
  listen(listener: (event: VmEvent) => void): Disposable;
}

/** A VM directory that could not be read. It is left as it is, for a person to look at; `delete` with force removes it. */
export interface BrokenVm {
  readonly name: string;
  readonly reason: string;
}

export interface Vms extends AsyncDisposable {
  readonly events: VmEvents;
  readonly broken: readonly BrokenVm[];
  /** Whom QEMU runs as, where not as the agent. */
  readonly fileOwner: FileOwner | undefined;
  /** Controllers of the control groups that hold VMs to their sizes; none where the host has delegated none. */
  readonly limitedBy: readonly string[];
  /** Who hears what guests dial. */
  readonly guestPorts: GuestPorts;

  /** That whoever QEMU runs as can open the files of the spec. @throws FairleadError PERMISSION_DENIED */
  checkFiles(spec: VmSpec): Promise<void>;

  create(spec: VmSpec, options?: CallOptions): Promise<VmInfo>;
  start(name: string, options?: CallOptions): Promise<VmInfo>;
  /** `create` and `start`; a VM whose start fails is deleted again. */
  run(spec: VmSpec, options?: CallOptions): Promise<VmInfo>;
  /** Answered from memory: a QEMU that hangs blocks nobody. */
  get(name: string): VmInfo;
  list(): VmInfo[];
  pause(name: string, options?: CallOptions): Promise<VmInfo>;
  resume(name: string, options?: CallOptions): Promise<VmInfo>;
  /** Saves the guest and ends its process; whoever wants something of it then wakes it. */
  /** Starts a VM at rest from a saved guest: `prepare` is called in turn, with the VM's own paths. */
  restore(name: string, prepare: (paths: VmPaths) => Promise<Restoration>, options?: CallOptions): Promise<VmInfo>;
  suspend(name: string, options: CallOptions & { readonly durability: Durability }): Promise<Result<'vm.suspend'>>;
  hold(name: string, options: CallOptions & { readonly forMs: number }): Promise<Result<'vm.hold'>>;
  reset(name: string, options?: CallOptions): Promise<VmInfo>;
  powerdown(name: string, options?: CallOptions): Promise<VmInfo>;
  stop(name: string, options?: CallOptions & { readonly graceMs?: number | undefined }): Promise<Result<'vm.stop'>>;
  delete(name: string, options?: CallOptions & { readonly force?: boolean | undefined }): Promise<void>;
  qmp(
    name: string,
    command: { execute: string; arguments?: Record<string, unknown> | undefined },
    options?: CallOptions,
  ): Promise<unknown>;
  /** Runs what needs the VM's QEMU process; live-vm.ts has the contract. */
  operate<T>(
    name: string,
    operation: Operation,
    options: CallOptions,
    run: (vm: LiveVm, deadline: Deadline) => Promise<T>,
  ): Promise<T>;
  /** Runs what needs a VM without a process, in turn with its commands. @throws FairleadError WRONG_STATE where it has one, or sleeps. */
  atRest<T>(
    name: string,
    doing: string,
    options: CallOptions,
    run: (vm: RestingVm, deadline: Deadline) => Promise<T>,
  ): Promise<T>;
  args(target: { vm: string } | { spec: VmSpec }, options?: CallOptions): Promise<Result<'vm.args'>>;
  capabilities(name: string): Result<'vm.capabilities'>;
  openStream(
    target: { vm: string; port: number; connectTimeoutMs: number },
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<OpenedStream>;
  /** A log of a VM, whether it runs or not. @throws FairleadError NOT_FOUND */
  openLog(name: string, source: LogSource): Promise<LogInUse>;
  hostInfo(options?: CallOptions): Promise<HostInfo>;

  /** The agent goes away and the VMs stay: QMP sessions are closed, streams reset, nothing is signalled. */
  close(): Promise<void>;
}
