/** What the agent says about a VM: its state, how it ended, and the events on the way. */
import * as v from 'valibot';
import { Count, Labels, Name, Timestamp } from './common.ts';
import { VmSpec } from './vm-spec.ts';

/** The states of the supervisor's machine (drawn in agent/vm/machine.ts). The first form does not reach `suspending … resuming` yet. */
export const VM_STATES = [
  'created',
  'starting',
  'running',
  'paused',
  'panicked',
  'io-error',
  'suspending',
  'suspended',
  'resuming',
  'stopping',
  'stopped',
  'crashed',
] as const;
export const VmState = v.picklist(VM_STATES);
export type VmState = v.InferOutput<typeof VmState>;

/** How the last QEMU process of a VM ended. `code` is null when it was not our child any more (adopted) or a signal ended it. */
export const VmExit = v.strictObject({
  at: Timestamp,
  /** `guest-shutdown`, `host-qmp-quit`, … from QEMU's SHUTDOWN event; `start-failed`; `lost` when nothing was said. */
  reason: v.string(),
  code: v.nullable(v.number()),
  signal: v.nullable(v.string()),
  /** Last lines of QEMU's standard error, at most 4 KiB. */
  stderrTail: v.string(),
});
export type VmExit = v.InferOutput<typeof VmExit>;

export const VsockInfo = v.strictObject({
  cid: Count,
  transport: v.picklist(['vhost-vsock', 'vhost-user']),
  /** Whether one direction of a stream can be closed alone. */
  halfClose: v.boolean(),
});
export type VsockInfo = v.InferOutput<typeof VsockInfo>;

export const VmInfo = v.strictObject({
  name: Name,
  uuid: v.string(),
  state: VmState,
  /** True once the guest has dialled its `readyPort` in this generation; false for a VM without one. */
  ready: v.boolean(),
  /** Rises by one at each start. */
  generation: Count,
  labels: Labels,
  createdAt: Timestamp,
  startedAt: v.optional(Timestamp),
  pid: v.optional(Count),
  accelerator: v.optional(v.picklist(['kvm', 'tcg'])),
  qemuVersion: v.optional(v.string()),
  vsock: v.optional(VsockInfo),
  exit: v.optional(VmExit),
  spec: VmSpec,
});
export type VmInfo = v.InferOutput<typeof VmInfo>;

export const VM_EVENT_TYPES = [
  'vm.created',
  'vm.started',
  'vm.ready',
  'vm.paused',
  'vm.resumed',
  'vm.reset',
  'vm.panicked',
  'vm.io-error',
  'vm.stopping',
  'vm.stopped',
  'vm.crashed',
  'vm.deleted',
] as const;
export const VmEventType = v.picklist(VM_EVENT_TYPES);
export type VmEventType = v.InferOutput<typeof VmEventType>;

/** `seq` rises by one with each event of a host and never repeats while `epoch` (made at each agent start) stays the same. */
export const VmEvent = v.strictObject({
  epoch: v.string(),
  seq: Count,
  time: Timestamp,
  vm: Name,
  type: VmEventType,
  state: VmState,
  data: v.record(v.string(), v.unknown()),
});
export type VmEvent = v.InferOutput<typeof VmEvent>;
