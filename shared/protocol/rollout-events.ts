/**
 * The journal of a rollout: everything that has become of it, one event after another. The state of a rollout is what its events make of it
 * and nothing else, so that any hub can take it up after any of them; and a watcher reads the same events.
 *
 * An event states a fact. It is durable before anything is done because of it.
 */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import { Actor } from './methods-operation.ts';
import { PlannedHost, RolloutPlan } from './rollout-plan.ts';
import { FailureClass, RollbackScope } from './rollout-spec.ts';

const Words = v.pipe(v.string(), v.maxLength(2048));
const Attempt = Count;

/** A person, or one of the rules of the rollout itself. */
export const Initiator = v.variant('kind', [
  v.strictObject({ kind: v.literal('person'), actor: Actor }),
  v.strictObject({ kind: v.literal('rule'), rule: v.picklist(['threshold', 'gate', 'health', 'progress', 'canary']) }),
]);
export type Initiator = v.InferOutput<typeof Initiator>;

const because = { by: Initiator, reason: Words } as const;

export const STAGES = ['to-be-approved', 'hosts', 'soak', 'gate', 'approval', 'late-joiners'] as const;
export const OUTCOMES = ['completed', 'aborted', 'rolled-back', 'rollback-failed'] as const;
const Outcome = v.picklist(OUTCOMES);
export type Outcome = v.InferOutput<typeof Outcome>;

const fact = <Name extends string, Entries extends v.ObjectEntries>(type: Name, entries: Entries) =>
  v.strictObject({ type: v.literal(type), ...entries });

/** Of all of it; told as it is kept. */
const OWN_FACTS = [
  fact('stage-begun', { wave: Count, stage: v.picklist(STAGES) }),
  fact('promoted', { wave: Count, ...because }),
  fact('approved', { wave: Count, ...because }),
  fact('paused', because),
  fact('resumed', because),
  fact('aborted', because),
  fact('rate-changed', { maxInFlight: Count, ...because }),
  fact('ended', { outcome: Outcome }),
] as const;

/** Of one host; likewise. */
const HOST_FACTS = [
  // On its way forward
  fact('host-started', { host: Name, attempt: Attempt }),
  fact('host-changed', { host: Name }),
  fact('host-done', { host: Name }),
  fact('host-failed', { host: Name, class: FailureClass, error: Words }),
  fact('host-waiting', { host: Name }),
  fact('host-back', { host: Name }),
  fact('host-skipped', { host: Name, ...because }),
  fact('host-passed-over', { host: Name, reason: Words }),
  // And on its way back
  fact('undo-started', { host: Name, attempt: Attempt }),
  fact('host-restored', { host: Name }),
  fact('undo-failed', { host: Name, error: Words }),
] as const;

const KEPT_FACTS = [
  fact('planned', { plan: RolloutPlan, by: Initiator }),
  fact('rollback-begun', { scope: RollbackScope, except: v.array(Name), ...because }),
  fact('retried', { hosts: v.array(Name), ...because }),
  fact('joined', { hosts: v.array(PlannedHost) }),
  /** One value for each step of the rollout. */
  fact('host-recorded', { host: Name, previous: v.array(v.unknown()) }),
  ...OWN_FACTS,
  ...HOST_FACTS,
] as const;
const RolloutFact = v.variant('type', KEPT_FACTS);
export type RolloutFact = v.InferOutput<typeof RolloutFact>;
export type FactOf<T extends RolloutFact['type']> = Extract<RolloutFact, { type: T }>;

/** For watchers: hosts are counted and not listed, and what was recorded of a host, specs of VMs, is not for everybody. */
const ToldFact = v.variant('type', [
  fact('planned', { revision: v.string(), hostsDigest: v.string(), hosts: Count, by: Initiator }),
  fact('rollback-begun', { scope: RollbackScope, spared: Count, ...because }),
  fact('retried', { hosts: Count, ...because }),
  fact('joined', { hosts: Count }),
  fact('host-recorded', { host: Name }),
  ...OWN_FACTS,
  ...HOST_FACTS,
]);
export type ToldFact = v.InferOutput<typeof ToldFact>;

/** A variant tries one after the other, and there are thousands of facts a second. */
const KEPT_BY_TYPE: ReadonlyMap<unknown, v.GenericSchema<unknown, RolloutFact>> = new Map(
  KEPT_FACTS.map((schema) => [schema.entries.type.literal, schema]),
);
const KeptFact = v.lazy((input): v.GenericSchema<unknown, RolloutFact> => {
  const type = typeof input === 'object' && input !== null && 'type' in input ? input.type : undefined;
  return KEPT_BY_TYPE.get(type) ?? RolloutFact;
});

/** As it is kept. */
export const RolloutEntry = v.strictObject({
  /**
   * Milliseconds for which the rollout has been driven. Waits are measured by it: neither a clock that is set nor a hub that is away makes a
   * host late.
   */
  t: v.pipe(v.number(), v.minValue(0)),
  /** Unix milliseconds. */
  atMs: Count,
  fact: KeptFact,
});
export type RolloutEntry = v.InferOutput<typeof RolloutEntry>;

/** As watchers get it. */
export const RolloutEvent = v.strictObject({
  /** Rises from event to event; other rollouts' events are between. A watcher goes on from it. */
  seq: Count,
  at: Timestamp,
  fact: ToldFact,
});
export type RolloutEvent = v.InferOutput<typeof RolloutEvent>;
