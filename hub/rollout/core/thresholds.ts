/**
 * When a rollout has failed too often. Failures are counted over the whole rollout, and beside that for each zone and each wave, never for the
 * batch alone: so failures that are spread thinly stop it as surely as those in a row.
 *
 * In strict mode the limits hold even if all that is under way fails: a host is started only while `failures + in flight + 1 <= limit`. A
 * sequential test has no limit to hold, and is refused there (check-spec.ts).
 */
import type {
  FailureClass,
  MaxThreshold,
  RolloutSpec,
  SequentialThreshold,
  Threshold,
} from '../../../shared/protocol/rollout-spec.ts';
import { amountOf, type Reaction } from '../../../shared/protocol/rollout-values.ts';
import { mostFailures } from './sequential-test.ts';
import type { HostState, RolloutState } from './state.ts';
import type { Tally } from './tally.ts';

export interface Tripped {
  readonly threshold: Threshold;
  readonly reason: string;
}

const GRAVITY = { pause: 0, abort: 1, rollback: 2 } as const satisfies Record<Reaction, number>;

/** Of the thresholds that are passed, one whose reaction is the gravest. */
export function trippedThreshold(state: RolloutState): Tripped | undefined {
  const tripped = state.spec.thresholds.flatMap((threshold) => passedBy(state, threshold));
  return tripped.toSorted((a, b) => GRAVITY[b.threshold.action] - GRAVITY[a.threshold.action])[0];
}

function passedBy(state: RolloutState, threshold: Threshold): Tripped[] {
  return [...scopesOf(state, threshold)].flatMap(([scope, tally]) => {
    const failures = failuresIn(tally, threshold);
    const limit = limitIn(state.spec, threshold, tally);
    if (limit === undefined || failures <= limit) return [];
    const what = threshold.failures === 'any' ? 'failed' : `failed (${threshold.failures})`;
    const why = isSequential(threshold)
      ? `significantly more than ${threshold.sequential.expected}: ${limit} may`
      : `${limit} may`;
    return { threshold, reason: `${failures} of ${tally.executed} hosts ${what} ${scope}, ${why}` };
  });
}

/** Whether `host` may be under way as well, in strict mode; always otherwise. */
export function mayRisk(state: RolloutState, host: HostState): boolean {
  if (!state.spec.strict) return true;
  return state.spec.thresholds.filter(hasMax).every((threshold) => {
    const tally = tallyOf(state, threshold, host);
    const worst = failuresIn(tally, threshold) + tally.inFlight + 1;
    return worst <= amountOf(threshold.max, tally.planned, Math.floor);
  });
}

/** Hosts of `planned` in one scope that strict mode lets have failed or be under way at once, at most. */
export function strictLimit({ strict, thresholds }: RolloutSpec, of: Threshold['of'], planned: number): number {
  if (!strict) return Number.POSITIVE_INFINITY;
  const own = thresholds.filter(hasMax).filter((threshold) => threshold.of === of);
  const limits = own.map(({ max }) => amountOf(max, planned, Math.floor));
  return Math.min(Number.POSITIVE_INFINITY, ...limits);
}

/** Failures after which hosts are still started, at most, as long as no person lets it go on beyond them. */
export function toleratedFailures({ thresholds }: RolloutSpec, planned: number): number {
  const limits = thresholds
    .filter(({ of, failures }) => of === 'rollout' && failures === 'any')
    .map((threshold) => {
      if (isSequential(threshold)) return mostFailures(threshold.sequential, planned);
      const { max, minExecuted } = threshold;
      return typeof max === 'number' ? max : Math.max(minExecuted - 1, amountOf(max, planned, Math.floor));
    });
  return Math.max(0, Math.min(Number.POSITIVE_INFINITY, ...limits));
}

function* scopesOf({ tallies }: RolloutState, { of }: Threshold): Generator<readonly [string, Tally]> {
  if (of === 'rollout') yield ['in this rollout', tallies.all];
  else if (of === 'zone') for (const [zone, tally] of tallies.zones) yield [`in zone ${zone}`, tally];
  else for (const [wave, tally] of tallies.waves) yield [`in wave ${wave}`, tally];
}

function tallyOf({ tallies }: RolloutState, { of }: Threshold, host: HostState): Tally {
  if (of === 'rollout') return tallies.all;
  return of === 'zone' ? tallies.zone(host.zone) : tallies.wave(host.wave);
}

function failuresIn(tally: Tally, { failures }: Threshold): number {
  return failures === 'any' ? tally.failed : tally.failedAs(failures satisfies FailureClass);
}

/** Undefined as long as too few hosts have ended for a share to say anything. */
function limitIn({ strict }: RolloutSpec, threshold: Threshold, tally: Tally): number | undefined {
  if (isSequential(threshold)) return mostFailures(threshold.sequential, tally.executed + tally.inFlight);
  const { max, minExecuted } = threshold;
  if (typeof max === 'number') return max;
  if (strict) return amountOf(max, tally.planned, Math.floor);
  return tally.executed < minExecuted ? undefined : amountOf(max, tally.executed, Math.floor);
}

export function isSequential(threshold: Threshold): threshold is SequentialThreshold {
  return 'sequential' in threshold;
}

function hasMax(threshold: Threshold): threshold is MaxThreshold {
  return !isSequential(threshold);
}
