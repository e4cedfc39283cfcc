/** What the store keeps of rollouts: a record of each, and its journal (subject: its id). */
import * as v from 'valibot';
import { Count, Name } from '../../shared/protocol/common.ts';
import { RolloutEntry } from '../../shared/protocol/rollout-events.ts';
import { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import { RolloutStatus } from '../../shared/protocol/rollout-status.ts';
import { defineCollection, defineLog } from '../store/store.ts';

const RolloutRecord = v.strictObject({
  id: Name,
  spec: RolloutSpec,
  startedBy: v.string(),
  startedAtMs: Count,
  /** As of its last change of status, for lists; the journal is what counts. */
  status: RolloutStatus,
  hosts: Count,
  endedAtMs: v.optional(Count),
});
export type RolloutRecord = v.InferOutput<typeof RolloutRecord>;

export const ROLLOUTS = defineCollection('rollouts', RolloutRecord);
export const ROLLOUT_LOG = defineLog('rollout_log', RolloutEntry);
