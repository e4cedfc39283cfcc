/**
 * From a spec and the hosts that its selector names to the plan: hosts in their order, each in its wave.
 *
 * A wave takes the first hosts that are left; of a zone that has `perZoneMax` in it already it passes the others over, and they are first in the next.
 * The last wave takes all. With sequential zones, a wave goes zone by zone within itself, so every wave still meets every zone.
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../../shared/canonical-json.ts';
import { FairleadError, type JsonValue } from '../../../shared/errors.ts';
import type { PlannedHost, RolloutPlan } from '../../../shared/protocol/rollout-plan.ts';
import type { RolloutSpec, WaveRules } from '../../../shared/protocol/rollout-spec.ts';
import { amountOf } from '../../../shared/protocol/rollout-values.ts';
import { type Candidate, compare, orderHosts } from './host-order.ts';

/** @throws FairleadError NOT_FOUND when the selector names no host */
export function planRollout(rolloutId: string, spec: RolloutSpec, candidates: readonly Candidate[]): RolloutPlan {
  if (candidates.length === 0) throw new FairleadError('NOT_FOUND', 'the selector of the rollout names no enrolled host');
  let left = orderHosts(rolloutId, candidates);
  const hosts: PlannedHost[] = [];
  for (const [wave, rules] of spec.waves.entries()) {
    const isLast = wave === spec.waves.length - 1;
    const taken = isLast ? left : takeWave(left, rules, candidates.length);
    const members = new Set(taken);
    left = left.filter((candidate) => !members.has(candidate));
    for (const { host, zone } of inZoneOrder(spec, taken)) hosts.push({ host, zone, wave });
  }
  return { revision: revisionOf(spec), hostsDigest: digestOfHosts(hosts), hosts };
}

/** Hosts that came later, as a wave of their own behind the others. */
export function planLateJoiners(
  rolloutId: string,
  spec: RolloutSpec,
  wave: number,
  candidates: readonly Candidate[],
): PlannedHost[] {
  return inZoneOrder(spec, orderHosts(rolloutId, candidates)).map(({ host, zone }) => ({ host, zone, wave }));
}

export function revisionOf(spec: RolloutSpec): string {
  // SAFETY: a spec is what was read from JSON, with defaults that are JSON.
  return sha256(canonicalJson(spec as unknown as JsonValue));
}

function takeWave(left: readonly Candidate[], rules: WaveRules, total: number): Candidate[] {
  const size = Math.max(amountOf(rules.hosts, total, Math.ceil), rules.minCount);
  const { perZoneMax = Number.POSITIVE_INFINITY } = rules;
  const ofZone = new Map<string, number>();
  const taken: Candidate[] = [];
  for (const candidate of left) {
    if (taken.length >= size) break;
    const count = ofZone.get(candidate.zone) ?? 0;
    if (count >= perZoneMax) continue;
    ofZone.set(candidate.zone, count + 1);
    taken.push(candidate);
  }
  return taken;
}

function inZoneOrder(spec: RolloutSpec, hosts: readonly Candidate[]): readonly Candidate[] {
  return spec.zones.order === 'sequential' ? hosts.toSorted((a, b) => compare(a.zone, b.zone)) : hosts;
}

function digestOfHosts(hosts: readonly PlannedHost[]): string {
  const names = hosts.map(({ host }) => host).sort();
  return sha256(names.join('\n'));
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
