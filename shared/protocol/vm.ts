/** What the agent says about a VM: what it is, its state, how it ended. */
import * as v from 'valibot';
import { Count, Labels, Name, Timestamp } from './common.ts';
import { VmSpec } from './vm-spec.ts';

/** The states of the supervisor's machine (drawn in agent/vm/machine.ts). */
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
  /**
   * `guest-shutdown`, `host-qmp-quit`, … from QEMU's SHUTDOWN event; else `sigkill` by a stop, `start-failed`, `host-restart`, `out-of-memory`
   * (of its control group), `discarded` for a guest that was given up in its sleep, or `lost` when nothing is known.
   */
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
  /**
   * What the guest has at this moment, by its balloon and its memory device; absent without a process. Of a clone that shares its snapshot's
   * RAM, `sharedBytes` is the most of it that may be shared: what the clone has not written to.
   */
  memory: v.optional(v.strictObject({ actualBytes: Count, sharedBytes: v.optional(Count) })),
  vsock: v.optional(VsockInfo),
  exit: v.optional(VmExit),
  /** Of a guest that is saved, for as long as it sleeps. `host`: it outlives a restart of its host. */
  suspended: v.optional(v.strictObject({ at: Timestamp, durability: v.picklist(['process', 'host']), deviceStateBytes: Count })),
  /** Where its restart policy stands; `dueAt` is when it is started again. */
  restart: v.optional(v.strictObject({ attempts: Count, dueAt: v.optional(Timestamp) })),
  spec: VmSpec,
});
export type VmInfo = v.InferOutput<typeof VmInfo>;
