/**
 * What rollouts have to do with one another: a host is in the hands of one at a time, from the start of the rollout to its end, and all count
 * what keeps hosts from their work in one place.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { RolloutFact } from '../../shared/protocol/rollout-events.ts';
import { Availability } from './availability.ts';
import { budgetLimits } from './core/budget.ts';
import { isDisrupted, type RolloutState } from './core/state.ts';

const LINE = 'line';
/** Facts after which more hosts are other than before than those that they name. */
const SWEEPING: ReadonlySet<RolloutFact['type']> = new Set(['aborted', 'rollback-begun', 'ended', 'retried', 'joined']);

export class Claims {
  readonly availability = new Availability();
  readonly #isUp: (host: string) => boolean;
  readonly #holders = new Map<string, string>();

  constructor(isUp: (host: string) => boolean) {
    this.#isUp = isUp;
  }

  /** The rollout that has a host in its hands. */
  holderOf(host: string): string | undefined {
    return this.#holders.get(host);
  }

  /** Whether another rollout or a person has it in hand: it is drained, or a command keeps it from its work. A line that is down is nobody's hand. */
  isInOtherHands(host: string, id: string): boolean {
    const holder = this.#holders.get(host);
    if (holder !== undefined && holder !== id) return true;
    return [...this.availability.claimsOn(host)].some((claim) => claim !== LINE && claim !== claimOf(id));
  }

  /** @throws FairleadError CONFLICT */
  requireFree(id: string, hosts: Iterable<{ readonly host: string }>): void {
    for (const { host } of hosts) {
      const holder = this.#holders.get(host);
      if (holder === undefined || holder === id) continue;
      const message = `host ${host} is in the hands of rollout ${holder}: wait for its end, or abort it`;
      throw new FairleadError('CONFLICT', message, { details: { host, rollout: holder } });
    }
  }

  lineChanged(host: string): void {
    this.availability.set(host, LINE, !this.#isUp(host));
  }

  /** From the start of a rollout, and each time after which more of it is other than before. */
  take(state: RolloutState): void {
    const hosts = [...state.hosts.values()];
    for (const host of hosts) {
      this.#holders.set(host.host, state.id);
      this.lineChanged(host.host);
      this.availability.set(host.host, claimOf(state.id), isDisrupted(state, host));
    }
    this.availability.watch(state.id, hosts, budgetLimits(state.spec, hosts));
  }

  /** Before anything else is decided, here or in another rollout. */
  evolved(state: RolloutState, facts: readonly RolloutFact[]): void {
    if (facts.length === 0 || facts.some(({ type }) => SWEEPING.has(type))) return this.take(state);
    for (const fact of facts) {
      const host = 'host' in fact ? state.hosts.get(fact.host) : undefined;
      if (host !== undefined) this.availability.set(host.host, claimOf(state.id), isDisrupted(state, host));
    }
  }

  release({ id, hosts }: RolloutState): void {
    this.availability.forget(id);
    for (const host of hosts.keys()) {
      if (this.#holders.get(host) === id) this.#holders.delete(host);
      this.availability.set(host, claimOf(id), false);
    }
  }
}

function claimOf(id: string): string {
  return `rollout ${id}`;
}
