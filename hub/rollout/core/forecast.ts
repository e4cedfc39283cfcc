/**
 * What a plan will do, for the dry run: waves, how long they take, and how many hosts of each zone are away from their work at worst.
 *
 * Away are those under way, those that have failed and wait for somebody, and those that a rule takes back, each at its most and never more than
 * the budget. People who let it go on after failures, or change its rate, can have more of them away, up to the budget.
 */
import type { RolloutForecast, RolloutPlan, WaveForecast, ZoneForecast } from '../../../shared/protocol/rollout-plan.ts';
import type { RolloutSpec } from '../../../shared/protocol/rollout-spec.ts';
import { budgetLimits } from './budget.ts';
import { compare } from './host-order.ts';
import { strictLimit, toleratedFailures } from './thresholds.ts';
import { undoLimit } from './undo-hosts.ts';

/** Hosts that are named; all of them could be too many for a message. */
const MAX_NAMED = 100;

export function forecast(spec: RolloutSpec, plan: RolloutPlan): RolloutForecast {
  const { revision, hostsDigest, hosts } = plan;
  const zones = countBy(hosts, ({ zone }) => zone);
  const waves = Map.groupBy(hosts, ({ wave }) => wave);
  const limits = budgetLimits(spec, hosts);
  const strict = strictLimit(spec, 'rollout', hosts.length);
  const widestOf = (wave: number): number => Math.min(spec.maxInFlight, strictLimit(spec, 'wave', wave));
  const widest = Math.min(limits.total, strict, Math.max(0, ...waves.values().map(({ length }) => widestOf(length))));
  const underWay = (zone: string, members: number): number =>
    Math.min(members, widest, limits.zone(zone), strictLimit(spec, 'zone', zones.get(zone) ?? 0));
  const lingering = toleratedFailures(spec, hosts.length);
  const goingBack = mayTurnBack(spec) ? undoLimit({ spec, maxInFlight: spec.maxInFlight }) : 0;
  /** Of so many under way on the way forward. */
  const awayOf = (forward: number): number => Math.min(limits.total, Math.min(forward + lingering, strict) + goingBack);

  const zoneRows = [...zones]
    .map(([zone, members]): ZoneForecast => {
      const worstUnavailable = Math.min(members, limits.zone(zone), awayOf(underWay(zone, members)));
      return { zone, hosts: members, worstUnavailable };
    })
    .sort((a, b) => compare(a.zone, b.zone));
  const waveRows = [...waves].map(([wave, members]): WaveForecast => {
    const ofZone = countBy(members, ({ zone }) => zone);
    const durationMs = waveDuration(spec, ofZone, underWay, Math.min(widest, widestOf(members.length)));
    return {
      wave,
      hosts: members.length,
      zones: Object.fromEntries(ofZone),
      durationMs: durationMs + (spec.waves[wave]?.soakMs ?? 0),
      ...comparedAfter(spec, wave, hosts),
    };
  });
  const widths = [...zones].map(([zone, members]) => underWay(zone, members)).sort((a, b) => b - a);
  const forward = Math.min(widest, sum(widths.slice(0, zonesAtOnce(spec))));
  return {
    revision,
    hostsDigest,
    hosts: hosts.length,
    waves: waveRows,
    zones: zoneRows,
    worstUnavailable: Math.min(awayOf(forward), sum(zoneRows.map(({ worstUnavailable }) => worstUnavailable))),
    durationMs: sum(waveRows.map(({ durationMs }) => durationMs)),
    canary: hosts
      .filter(({ wave }) => wave === 0)
      .slice(0, MAX_NAMED)
      .map(({ host }) => host),
  };
}

/** Of several control groups, the largest. */
function comparedAfter({ waves }: RolloutSpec, wave: number, hosts: RolloutPlan['hosts']): Pick<WaveForecast, 'compared'> {
  const sizes = (waves[wave]?.gate?.checks ?? []).flatMap((check) => (check.kind === 'control' ? check.hosts : []));
  if (sizes.length === 0) return {};
  const size = Math.max(...sizes);
  const changed = hosts.filter((host) => host.wave <= wave).length;
  return { compared: { changed: Math.min(size, changed), unchanged: Math.min(size, hosts.length - changed) } };
}

/** By a rule; people always can. */
function mayTurnBack({ thresholds, waves, progress }: RolloutSpec): boolean {
  const actions = [...thresholds.map(({ action }) => action), ...waves.map(({ gate }) => gate?.onFailure), progress?.action];
  return actions.includes('rollback');
}

/** Zones one after the other, or as many at once as may be. A window slides, so only its last hosts make a round of their own. */
function waveDuration(
  spec: RolloutSpec,
  ofZone: ReadonlyMap<string, number>,
  underWay: (zone: string, members: number) => number,
  widest: number,
): number {
  const hostMs = spec.expectedHostMs + spec.health.minHealthyMs;
  const rounds = [...ofZone].map(([zone, members]) => Math.ceil(members / underWay(zone, members)));
  const zoneBound = Math.max(0, ...rounds, Math.ceil(sum(rounds) / zonesAtOnce(spec)));
  const windowBound = Math.ceil(sum([...ofZone.values()]) / widest);
  return Math.max(zoneBound, windowBound) * hostMs;
}

function zonesAtOnce({ zones }: RolloutSpec): number {
  return zones.order === 'sequential' ? 1 : zones.maxInFlight;
}

function countBy<T>(items: readonly T[], key: (item: T) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  return counts;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
