/**
 * Who keeps which host from its work, over all rollouts of the hub: a line that is down, a rollout, a person. A rollout's budget is counted here
 * over its own hosts, so that two rollouts, an operation by hand and an outage draw on one and the same.
 *
 * A host that is claimed twice counts once.
 */
import type { BudgetLimits } from './core/budget.ts';

/** Hosts over which one budget is counted. */
interface Domain {
  readonly limits: BudgetLimits;
  readonly zones: Map<string, string>;
  readonly awayByZone: Map<string, number>;
  away: number;
}

export class Availability {
  readonly #claims = new Map<string, Set<string>>();
  readonly #domains = new Map<string, Domain>();

  isUnavailable(host: string): boolean {
    return this.#claims.has(host);
  }

  /** Who keeps the host from its work. */
  claimsOn(host: string): Iterable<string> {
    return this.#claims.get(host) ?? [];
  }

  /** `claim` names who keeps the host from its work, such as `rollout r1` or `line`. */
  set(host: string, claim: string, isClaimed: boolean): void {
    const claims = this.#claims.get(host);
    if (isClaimed === (claims?.has(claim) ?? false)) return;
    if (isClaimed) {
      if (claims !== undefined) return void claims.add(claim);
      this.#claims.set(host, new Set([claim]));
      this.#count(host, 1);
    } else if (claims !== undefined) {
      claims.delete(claim);
      if (claims.size > 0) return;
      this.#claims.delete(host);
      this.#count(host, -1);
    }
  }

  /** Counts a budget from now on; hosts of the domain may be added later by calling it again. */
  watch(name: string, hosts: Iterable<{ readonly host: string; readonly zone: string }>, limits: BudgetLimits): void {
    const domain: Domain = { limits, zones: new Map(), awayByZone: new Map(), away: 0 };
    this.#domains.set(name, domain);
    for (const { host, zone } of hosts) {
      domain.zones.set(host, zone);
      if (this.#claims.has(host)) add(domain, zone, 1);
    }
  }

  forget(name: string): void {
    this.#domains.delete(name);
  }

  /** How many more hosts of the domain may become unavailable. */
  room(name: string): { readonly total: number; zone(zone: string): number } {
    const domain = this.#domains.get(name);
    if (domain === undefined) return { total: 0, zone: () => 0 };
    const { limits, away, awayByZone } = domain;
    return { total: limits.total - away, zone: (zone) => limits.zone(zone) - (awayByZone.get(zone) ?? 0) };
  }

  #count(host: string, by: 1 | -1): void {
    for (const domain of this.#domains.values()) {
      const zone = domain.zones.get(host);
      if (zone !== undefined) add(domain, zone, by);
    }
  }
}

function add(domain: Domain, zone: string, by: 1 | -1): void {
  domain.away += by;
  domain.awayByZone.set(zone, (domain.awayByZone.get(zone) ?? 0) + by);
}
