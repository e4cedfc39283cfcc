/** What the agent says about a snapshot of a VM. */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';

/**
 * `stream` saves all of the guest's memory in one file, for every VM. `instant` saves the state of devices alone and keeps a frozen copy of
 * the RAM file of a VM whose memory is in one; it is there again in milliseconds, and can be cloned.
 */
export const SnapshotMode = v.picklist(['stream', 'instant']);
export type SnapshotMode = v.InferOutput<typeof SnapshotMode>;

export const SnapshotInfo = v.strictObject({
  name: Name,
  /** The VM that it is of; it may be gone by now. */
  vm: Name,
  mode: SnapshotMode,
  createdAt: Timestamp,
  /** Made so that VMs of other names can be made from it. */
  clonable: v.boolean(),
  qemuVersion: v.string(),
  /** As QEMU names it, with its version. */
  machine: v.string(),
  memoryBytes: Count,
  /** What its files take on the host's disk, holes left out. */
  storedBytes: Count,
  /** How long the guest stood still for it. */
  pausedMs: Count,
  /** VMs and snapshots (as `snapshot:NAME`) that stand on its files; it cannot be removed while there are any. */
  usedBy: v.array(v.string()),
});
export type SnapshotInfo = v.InferOutput<typeof SnapshotInfo>;

/** How far the making of a snapshot is. */
export const SnapshotProgress = v.strictObject({
  phase: v.picklist(['unplugging', 'saving', 'copying', 'plugging', 'hashing']),
  savedBytes: Count,
  /** Of memory that is left, as far as QEMU says. */
  remainingBytes: v.optional(Count),
  bytesPerSecond: v.optional(Count),
  remainingMs: v.optional(Count),
});
export type SnapshotProgress = v.InferOutput<typeof SnapshotProgress>;
