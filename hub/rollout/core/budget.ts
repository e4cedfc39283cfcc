/**
 * The disruption budget of a rollout: of all hosts that it is about, so many may be away from their work at once, and so many of one zone.
 *
 * Whatever keeps a host away uses it up: this rollout, another, an operation by hand, a line that is down; a host that failed does until
 * somebody has seen to it or the rollout is over. A host that is away already costs nothing more.
 */
import type { RolloutSpec } from '../../../shared/protocol/rollout-spec.ts';
import { amountOf } from '../../../shared/protocol/rollout-values.ts';

export interface BudgetLimits {
  readonly total: number;
  zone(zone: string): number;
}

/** A share is never less than one host, or nothing could ever begin. */
export function budgetLimits(spec: RolloutSpec, hosts: ReadonlyArray<{ readonly zone: string }>): BudgetLimits {
  const { maxUnavailable, perZone } = spec.budget;
  const members = new Map<string, number>();
  for (const { zone } of hosts) members.set(zone, (members.get(zone) ?? 0) + 1);
  const atLeastOne = (value: number) => Math.max(1, Math.floor(value));
  return {
    total: amountOf(maxUnavailable, hosts.length, atLeastOne),
    zone: (zone) => amountOf(perZone, members.get(zone) ?? 0, atLeastOne),
  };
}
