/**
 * A VM as an operation sees it while its QEMU process is there: the seam between the supervisor, which knows the life of a VM, and what
 * can be done to one that lives (memory, devices, guest agent, console, migration), of which the supervisor knows nothing.
 *
 *     vms.operate('web', { doing: 'resizing the memory of', inTurn: true }, options, async (vm, deadline) => {
 *       await vm.execute('balloon', { value }, deadline);
 *     });
 *
 * A LiveVm is good for one operation and one generation: `signal` fires when the process is gone or the agent leaves, and every command
 * then rejects. Operations `inTurn` run one after another with start, stop and the rest; the others run beside them, for as long as they
 * like, and so must not depend on the state staying as it is.
 */
import type { Duplex } from 'node:stream';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import type { VmEventData, VmEventType } from '../../shared/protocol/vm-events.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { type QmpArguments, type QmpCommandName, type QmpResult, runCommand } from '../qmp/commands.ts';
import type { ListenOptions, QmpListener } from '../qmp/events.ts';
import type { ExecuteOptions } from '../qmp/options.ts';
import type { VsockDevice } from '../streams/transport.ts';
import type { Deadline } from './deadline.ts';
import type { MemoryGauge } from './memory/memory-gauge.ts';
import { dialGuest } from './open-stream.ts';
import type { Session } from './session.ts';
import type { ProcessRecord, VmPaths, VmRecord } from './store.ts';

/** The time that a command has: a Deadline is one. */
export type CommandLimits = Pick<Deadline, 'signal' | 'remainingMs'>;

/** What goes with a command besides. */
export type CommandExtras = Pick<ExecuteOptions, 'fds'>;

/** As much of a VM as QMP commands need: there is no more of it before its guest has been loaded. */
export type CommandedVm = Pick<LiveVm, 'name' | 'signal' | 'execute'>;

export interface LiveVm {
  readonly name: string;
  readonly generation: number;
  readonly state: VmState;
  readonly spec: VmSpec;
  readonly process: ProcessRecord;
  readonly paths: VmPaths;
  readonly device: VsockDevice | undefined;
  readonly vsock: VsockOfVm;
  /** What is told of the guest's memory. */
  readonly memory: MemoryGauge;
  /** Fires when the process is gone or the agent leaves. */
  readonly signal: AbortSignal;
  /** @throws FairleadError what QMP throws; INTERRUPTED while QEMU does not answer. */
  execute<Name extends QmpCommandName>(
    command: Name,
    args: QmpArguments<Name>,
    limits: CommandLimits,
    extras?: CommandExtras,
  ): Promise<QmpResult<Name>>;
  /** One attempt at a stream to a vsock port of the guest, which ends with that guest. @throws FairleadError as VsockDevice.connect does. */
  dial(options: { port: number; timeoutMs: number; signal: AbortSignal }): Promise<Duplex>;
  /** QEMU's events from now on, in order; ends with the QMP session. */
  listen(options?: ListenOptions): QmpListener;
  /** Changes what the VM is from now on, durably: the next start builds its command line from it. */
  changeSpec(change: (spec: VmSpec) => VmSpec): Promise<void>;
  /** Tells an event of this VM. */
  tell<Type extends VmEventType>(type: Type, data: VmEventData<Type>): void;
}

/** A VM that has no process, and gets none while it is looked at. */
export interface RestingVm {
  readonly name: string;
  readonly spec: VmSpec;
  readonly paths: VmPaths;
  /** What it is from its next start on, durably. */
  changeSpec(spec: VmSpec): Promise<void>;
}

/** Changes of the vsock device (devices/vsock.ts); QEMU's side of it is not done here. */
export interface VsockOfVm {
  /** A device of the host's transport that no QEMU has yet. @throws FairleadError UNSUPPORTED where the host has none. */
  prepare(signal: AbortSignal): Promise<VsockDevice>;
  /** Streams go through this device from here on, those of a later agent too, or through none; the one before is given back. */
  use(device: VsockDevice | undefined): Promise<void>;
  /** Resets the streams for that reason, and settles when the guest has heard of it as far as can be known. */
  quiet(why: string, details?: JsonObject): Promise<void>;
}

/** How an operation stands to the commands of its VM. */
export interface Operation {
  /** For messages, before the words "VM web": "resizing the memory of". */
  readonly doing: string;
  /** Waits for its place among the commands of this VM. */
  readonly inTurn: boolean;
  /** States in which it makes sense. Default: those in which the guest is there. */
  readonly states?: readonly VmState[] | undefined;
  /** A VM that sleeps is woken for it. For operations that are not in turn. */
  readonly wakes?: boolean | undefined;
}

export interface LiveVmParts {
  readonly session: Session;
  readonly paths: VmPaths;
  readonly process: ProcessRecord;
  readonly prepareVsock: VsockOfVm['prepare'];
  readonly record: () => VmRecord;
  readonly state: () => VmState;
  readonly save: (change: Partial<VmRecord>) => Promise<void>;
  readonly tell: LiveVm['tell'];
}

export function liveVm({ session, paths, process, prepareVsock, record, state, save, tell }: LiveVmParts): LiveVm {
  return {
    name: session.vm,
    generation: session.generation,
    get process() {
      return record().process ?? process;
    },
    paths,
    get device() {
      return session.device;
    },
    vsock: {
      prepare: prepareVsock,
      async use(device) {
        await session.useDevice(device);
        const { process: current, spec } = record();
        if (current !== undefined) await save({ process: { ...current, vsock: device?.state } });
        await session.listenToGuest(spec.vsock?.readyPort);
      },
      async quiet(why, details) {
        session.resetStreams(why, details);
        await session.device?.settle();
      },
    },
    memory: session.memory,
    signal: session.signal,
    get state() {
      return state();
    },
    get spec() {
      return record().spec;
    },
    execute: async (command, args, { signal, remainingMs }, extras) =>
      runCommand(session.qmp, command, args, { ...extras, signal, timeoutMs: remainingMs }),
    dial: async (options) => {
      const { device, vm } = session;
      if (device === undefined) throw new FairleadError('GUEST_UNREACHABLE', `VM ${vm} has no vsock device to be reached by`);
      return dialGuest(session, device, options);
    },
    listen: (options) => session.qmp.listen(options),
    changeSpec: (change) => save({ spec: change(record().spec) }),
    tell,
  };
}
