/**
 * What happens to VMs, told in the order in which it happened: one schema for each type of event, so that whoever knows the type knows
 * the data.
 *
 * `seq` rises with each event of a host and never stands for another event while `epoch` stays the same. An epoch lasts over restarts of
 * the agent and of the host, for as long as the host keeps its event log; after a restart of the host numbers may be left out.
 */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import { VmState } from './vm.ts';

const Text = v.string();

/** How a process ended; see `VmExit`. */
const End = { reason: Text, code: v.nullable(v.number()), signal: v.nullable(Text) } as const;

/** `generation` is that of the VM's process; 0 for a VM that was never started. */
function event<const Type extends string, const Data extends v.ObjectEntries>(type: Type, data: Data) {
  return v.strictObject({
    epoch: Text,
    seq: Count,
    time: Timestamp,
    vm: Name,
    type: v.literal(type),
    state: VmState,
    data: v.strictObject({ generation: Count, ...data }),
  });
}

export const VmEvent = v.variant('type', [
  event('vm.created', {}),
  event('vm.started', { pid: v.optional(Count), accelerator: v.optional(Text) }),
  /** Its QEMU ended, or could not be brought to run the guest: `code` and `message` are the error of the start. */
  event('vm.start-failed', { code: Text, message: Text }),
  /** The guest dialled its `readyPort`. */
  event('vm.ready', {}),
  event('vm.paused', {}),
  event('vm.resumed', {}),
  /** Once for all that the firmware makes of one reset. */
  event('vm.reset', { guest: v.optional(v.boolean()), reason: v.optional(Text) }),
  event('vm.panicked', { action: v.optional(Text) }),
  /** `action` is `stop` where it stopped the guest, which is then in the state `io-error`; else the guest was told (`report`). */
  event('vm.io-error', {
    action: v.optional(Text),
    device: v.optional(Text),
    node: v.optional(Text),
    operation: v.optional(Text),
    isOutOfSpace: v.optional(v.boolean()),
    reason: v.optional(Text),
  }),
  event('vm.watchdog-fired', { action: v.optional(Text) }),
  event('vm.balloon-changed', { actualBytes: Count }),
  event('vm.memory-resized', { device: v.optional(Text), bytes: Count }),
  event('vm.device-removed', { device: Text }),
  event('vm.migration-changed', { status: Text }),
  event('vm.suspending', {}),
  event('vm.suspended', {}),
  /** `requested`, or what QEMU says why it ends. */
  event('vm.stopping', { reason: v.optional(Text), guest: v.optional(v.boolean()) }),
  /** It was asked to shut down, did not in its caller's time, and runs on. */
  event('vm.stop-abandoned', {}),
  event('vm.stopped', End),
  event('vm.crashed', End),
  event('vm.restart-scheduled', { attempt: Count, delayMs: Count, isCrashLoop: v.boolean() }),
  event('vm.deleted', {}),
]);
export type VmEvent = v.InferOutput<typeof VmEvent>;
export type VmEventType = VmEvent['type'];

/** What is told of an event of the type, apart from what every event has. */
export type VmEventData<Type extends VmEventType> = Omit<Extract<VmEvent, { type: Type }>['data'], 'generation'>;

type Unplaced<Event> = Event extends VmEvent
  ? Omit<Event, 'epoch' | 'seq' | 'time'> & { readonly time?: string | undefined }
  : never;

/** An event before it has its place in the log; `time` is that of the telling unless it is given. */
export type NewVmEvent = Unplaced<VmEvent>;
