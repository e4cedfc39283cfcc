/**
 * What a rollout is: which hosts, what is done to each, in which waves, how fast, and when it must stop. Written by an operator, kept as it
 * was written, and never changed afterwards: its digest is the rollout's revision.
 *
 * An amount is a number of hosts or a share of them ("10%"). A wave's share is rounded up, a budget's down but never to nothing, and a
 * threshold's down.
 *
 * What cannot be said by a schema (a method that there is, a time zone, what can be taken back) the hub checks before it plans.
 */
import * as v from 'valibot';
import { Count, Labels, Name } from './common.ts';
import { ImageName } from './image-ref.ts';
import { Gate, Health } from './rollout-checks.ts';
import { Amount, MAX_HOSTS, milliseconds, Reaction, Share, text, whole } from './rollout-values.ts';

export const FAILURE_CLASSES = ['failed', 'rejected', 'timed-out', 'unreachable', 'unhealthy'] as const;
/**
 * Of a host that did not make it: its command failed, it refused the command, it did not end in time, it cannot be reached, or it was not
 * healthy after.
 */
export const FailureClass = v.picklist(FAILURE_CLASSES);
export type FailureClass = v.InferOutput<typeof FailureClass>;

// -- What is done to a host ----------------------------------------------------------------------------------------------------------

/** All VMs of the host that have these labels and, where names are given, one of them. */
const VmSelector = v.strictObject({
  names: v.optional(v.pipe(v.array(Name), v.minLength(1), v.maxLength(1000))),
  labels: v.optional(Labels, {}),
});

const JsonParams = v.record(text(64), v.unknown());
const Call = v.strictObject({ method: text(64), params: v.optional(JsonParams, {}) });

/** `patch` is a JSON merge patch (RFC 7396) of the VM's spec. What ran is stopped for it and started again; what did not, stays stopped. */
const VmStep = v.strictObject({
  kind: v.literal('vm'),
  vms: v.optional(VmSelector, {}),
  patch: v.optional(JsonParams, {}),
  /** How long each guest has to shut down by itself. */
  graceMs: v.optional(milliseconds(), 10_000),
});

/** Any method that may be repeated. Without `undo` the step is one that cannot be taken back. */
const CallStep = v.strictObject({ kind: v.literal('call'), ...Call.entries, undo: v.optional(Call) });

/** Another release of the agent itself, tried by the host; taken back to the one that ran. */
const AgentStep = v.strictObject({
  kind: v.literal('agent'),
  release: v.union([ImageName, v.literal('installed')]),
  /** Of `fairlead release sign`, for hosts that ask for it. */
  signature: v.optional(text(128)),
  /** By when it must have proved itself on the host. */
  healthTimeoutMs: v.optional(whole(1000, 600_000), 60_000),
});

export const Step = v.variant('kind', [VmStep, CallStep, AgentStep]);
export type Step = v.InferOutput<typeof Step>;

// -- Order and speed ---------------------------------------------------------------------------------------------------------------------

const Wave = v.strictObject({
  hosts: Amount,
  /** For a share of few hosts. */
  minCount: v.optional(Count, 1),
  perZoneMax: v.optional(whole(1, MAX_HOSTS)),
  /** How long to wait and watch once its hosts are done. */
  soakMs: v.optional(milliseconds(), 0),
  gate: v.optional(Gate),
  /** A person must approve before the next wave. */
  approval: v.optional(v.boolean(), false),
});
export type WaveRules = v.InferOutput<typeof Wave>;

/** The window begins at `from` hosts, grows by `factor` each time as many hosts as fit into it have made it, and falls back when one has not. */
const Ramp = v.strictObject({
  from: v.optional(whole(1, 10_000), 1),
  factor: v.optional(v.pipe(v.number(), v.minValue(1.1), v.maxValue(10)), 2),
});

const Zones = v.strictObject({
  /** `sequential`: one after the other by name. `concurrent`: as the window allows. */
  order: v.optional(v.picklist(['sequential', 'concurrent']), 'sequential'),
  /** Zones in which hosts may be under way at once. */
  maxInFlight: v.optional(whole(1, 1000), 1),
});

/** Counted over all hosts that the selector names, whatever keeps them from their work: this rollout, another, a person, or a broken line. */
const Budget = v.strictObject({ maxUnavailable: v.optional(Amount, '10%'), perZone: v.optional(Amount, '10%') });

// -- When it must stop -------------------------------------------------------------------------------------------------------------------

const counted = {
  failures: v.optional(v.picklist(['any', ...FAILURE_CLASSES]), 'any'),
  of: v.optional(v.picklist(['rollout', 'zone', 'wave']), 'rollout'),
  action: v.optional(Reaction, 'pause'),
} as const;

/**
 * More failures than `max` trip it. A share is of the hosts that have ended, from `minExecuted` of them on; in strict mode it is of all
 * planned ones, since a share of few cannot be kept to.
 */
const MaxThreshold = v.strictObject({ ...counted, max: Amount, minExecuted: v.optional(Count, 10) });
export type MaxThreshold = v.InferOutput<typeof MaxThreshold>;

/** Which share of failures is as ever, and which is too many. */
const Sequential = v.strictObject({
  /** More than 0%, and less than `tooMany`, which is less than 100%. */
  expected: Share,
  tooMany: Share,
  /** How likely it may trip all the same where no more than the expected share fails, however long the rollout is. */
  falseAlarms: v.optional(Share, '1%'),
});
export type Sequential = v.InferOutput<typeof Sequential>;

/** Trips as soon as significantly more fail than expected: after few failures when they come first, later when many hosts have made it. */
const SequentialThreshold = v.strictObject({ ...counted, sequential: Sequential });
export type SequentialThreshold = v.InferOutput<typeof SequentialThreshold>;

const Threshold = v.union([MaxThreshold, SequentialThreshold]);
export type Threshold = v.InferOutput<typeof Threshold>;

/** Of a host that has no line when its turn comes. `wait`: others go on meanwhile, and it is skipped after `waitMs`. */
const Unreachable = v.strictObject({
  policy: v.optional(v.picklist(['skip', 'wait', 'count-as-failure']), 'wait'),
  waitMs: v.optional(milliseconds(), 600_000),
});

const Progress = v.strictObject({ withinMs: milliseconds(1000), action: v.optional(Reaction, 'pause') });

export const RollbackScope = v.picklist(['touched', 'failed', 'failed-zones']);
export type RollbackScope = v.InferOutput<typeof RollbackScope>;

const Rollback = v.strictObject({
  /** All hosts that were changed, those alone that failed, or all that were changed in zones where one failed. */
  scope: v.optional(RollbackScope, 'touched'),
  /** Twice that of the way forward by default. */
  maxInFlight: v.optional(whole(1, 10_000)),
});

const TIME = /^(?:[01]\d|2[0-3]):[0-5]\d$/;
export const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;

/** When hosts may be started, by the clocks of `timeZone`; `to` before `from` is on the next day, and the day is that of `from`. */
const ChangeWindow = v.strictObject({
  /** Of these zones; without, of all. The time zone is an IANA name, such as Europe/Berlin. */
  zones: v.optional(v.pipe(v.array(text(255)), v.minLength(1), v.maxLength(1000))),
  timeZone: v.optional(text(64), 'UTC'),
  days: v.optional(v.pipe(v.array(v.picklist(WEEKDAYS)), v.minLength(1)), [...WEEKDAYS]),
  from: v.pipe(v.string(), v.regex(TIME, 'must be a time such as 22:00')),
  to: v.pipe(v.string(), v.regex(TIME, 'must be a time such as 04:00')),
});
export type ChangeWindow = v.InferOutput<typeof ChangeWindow>;

// -- All of it ---------------------------------------------------------------------------------------------------------------------------

export const RolloutSpec = v.strictObject({
  name: v.optional(text(100), ''),
  selector: v.strictObject({
    hosts: v.optional(v.pipe(v.array(Name), v.minLength(1), v.maxLength(MAX_HOSTS))),
    labels: v.optional(Labels, {}),
  }),
  /** Hosts that come to match the selector up to so long after the last wave are changed too. */
  lateJoinersForMs: v.optional(milliseconds()),
  steps: v.pipe(v.array(Step), v.minLength(1), v.maxLength(8)),
  /** The first is the canary. The last takes all that are left. */
  waves: v.optional(v.pipe(v.array(Wave), v.minLength(1), v.maxLength(64)), [{ hosts: 1 }, { hosts: '100%' }]),
  maxInFlight: v.optional(whole(1, 10_000), 10),
  ramp: v.optional(Ramp),
  zones: v.optional(Zones, {}),
  budget: v.optional(Budget, {}),
  health: v.optional(Health, {}),
  thresholds: v.optional(v.pipe(v.array(Threshold), v.maxLength(16)), [{ max: 0 }]),
  /** Start a host only if the thresholds held even if all that is under way failed. */
  strict: v.optional(v.boolean(), false),
  unreachable: v.optional(Unreachable, {}),
  /** For the commands of one host, and those that take it back. */
  hostTimeoutMs: v.optional(milliseconds(1000), 600_000),
  /** What a host is expected to take; for the estimate alone. */
  expectedHostMs: v.optional(milliseconds(), 30_000),
  /** At least one host must make it within this time. */
  progress: v.optional(Progress),
  rollback: v.optional(Rollback, {}),
  /** Before the first host. `another`: not the one who started it. */
  approval: v.optional(v.picklist(['none', 'anyone', 'another']), 'none'),
  windows: v.optional(v.pipe(v.array(ChangeWindow), v.maxLength(64)), []),
});

export type RolloutSpec = v.InferOutput<typeof RolloutSpec>;
export type RolloutSpecInput = v.InferInput<typeof RolloutSpec>;
