/** A rollout as operators see it: where it stands, how its hosts fare, and why it does not go on. */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import { OUTCOMES, STAGES } from './rollout-events.ts';
import { FAILURE_CLASSES, FailureClass } from './rollout-spec.ts';

export type Stage = (typeof STAGES)[number];

export const HOST_PHASES = [
  'pending',
  'waiting',
  'recording',
  'held',
  'changing',
  'verifying',
  'done',
  'failed',
  'skipped',
  'not-started',
  'undoing',
  'restored',
  'undo-failed',
] as const;
export const HostPhase = v.picklist(HOST_PHASES);
export type HostPhase = v.InferOutput<typeof HostPhase>;

export const ROLLOUT_STATUSES = [
  'awaiting-approval',
  'running',
  'soaking',
  'gating',
  'awaiting-late-joiners',
  'paused',
  'aborting',
  'rolling-back',
  ...OUTCOMES,
] as const;
export const RolloutStatus = v.picklist(ROLLOUT_STATUSES);
export type RolloutStatus = v.InferOutput<typeof RolloutStatus>;

const Words = v.string();

export const RolloutSummary = v.strictObject({
  rollout: Name,
  name: v.string(),
  status: RolloutStatus,
  startedBy: v.string(),
  startedAt: Timestamp,
  endedAt: v.optional(Timestamp),
  revision: v.string(),
  hostsDigest: v.string(),
  wave: Count,
  waves: Count,
  stage: v.picklist(STAGES),
  hosts: Count,
  /** Hosts by what has become of them; phases that none is in are left out. */
  phases: v.strictObject(v.entriesFromList(HOST_PHASES, v.optional(Count))),
  /** Failed hosts by class. */
  failures: v.strictObject(v.entriesFromList(FAILURE_CLASSES, v.optional(Count))),
  inFlight: Count,
  window: Count,
  maxInFlight: Count,
  paused: v.optional(v.strictObject({ by: v.string(), reason: Words })),
  /** Why it was aborted or is taken back. `by`: the person, or the rule of the rollout. */
  stopped: v.optional(v.strictObject({ by: v.string(), isByPerson: v.boolean(), reason: Words })),
  /** Why no further host is started at this moment. */
  blocked: v.optional(Words),
  /** Number of its last event. */
  seq: Count,
});
export type RolloutSummary = v.InferOutput<typeof RolloutSummary>;

export const RolloutHost = v.strictObject({
  host: Name,
  zone: v.string(),
  wave: Count,
  phase: HostPhase,
  attempt: Count,
  touched: v.boolean(),
  failure: v.optional(v.strictObject({ class: FailureClass, error: v.string() })),
  note: v.optional(v.string()),
});
export type RolloutHost = v.InferOutput<typeof RolloutHost>;
