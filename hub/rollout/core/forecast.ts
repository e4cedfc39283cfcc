/** What a plan will do, for the dry run: waves, how long they take, and how many hosts of each zone are away from their work at worst. */
import type { RolloutForecast, RolloutPlan, WaveForecast, ZoneForecast } from '../../../shared/protocol/rollout-plan.ts';
import type { RolloutSpec } from '../../../shared/protocol/rollout-spec.ts';
import { budgetLimits } from './budget.ts';
import { compare } from './host-order.ts';
import { strictLimit } from './thresholds.ts';

/** Hosts that are named; all of them could be too many for a message. */
const MAX_NAMED = 100;

export function forecast(spec: RolloutSpec, plan: RolloutPlan): RolloutForecast {
  const { revision, hostsDigest, hosts } = plan;
  const zones = countBy(hosts, ({ zone }) => zone);
  const limits = budgetLimits(spec, hosts);
  const widest = Math.min(spec.maxInFlight, limits.total, hosts.length, strictLimit(spec, hosts.length));
  const worstOf = (zone: string, members: number): number => Math.min(members, widest, limits.zone(zone));

  const zoneRows = [...zones]
    .map(([zone, members]): ZoneForecast => ({ zone, hosts: members, worstUnavailable: worstOf(zone, members) }))
    .sort((a, b) => compare(a.zone, b.zone));
  const waves = [...Map.groupBy(hosts, ({ wave }) => wave)].map(([wave, members]): WaveForecast => {
    const ofZone = countBy(members, ({ zone }) => zone);
    const durationMs = waveDuration(spec, ofZone, worstOf, widest) + (spec.waves[wave]?.soakMs ?? 0);
    return { wave, hosts: members.length, zones: Object.fromEntries(ofZone), durationMs };
  });
  const atOnce = zoneRows.map(({ worstUnavailable }) => worstUnavailable).sort((a, b) => b - a);
  return {
    revision,
    hostsDigest,
    hosts: hosts.length,
    waves,
    zones: zoneRows,
    worstUnavailable: Math.min(widest, sum(atOnce.slice(0, zonesAtOnce(spec)))),
    durationMs: sum(waves.map(({ durationMs }) => durationMs)),
    canary: hosts
      .filter(({ wave }) => wave === 0)
      .slice(0, MAX_NAMED)
      .map(({ host }) => host),
  };
}

/** Zones one after the other, or as many at once as may be. A window slides, so only its last hosts make a round of their own. */
function waveDuration(
  spec: RolloutSpec,
  ofZone: ReadonlyMap<string, number>,
  worstOf: (zone: string, members: number) => number,
  widest: number,
): number {
  const hostMs = spec.expectedHostMs + spec.health.minHealthyMs;
  const rounds = [...ofZone].map(([zone, members]) => Math.ceil(members / worstOf(zone, members)));
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
