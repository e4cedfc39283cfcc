/**
 * What the hub counts of its rollouts, in the hub's registry. Labels are words of the contract alone: no rollout, host or zone has a series
 * of its own, however many there are. Hosts are counted when what became of them is durable, once each time.
 */
import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { RolloutFact } from '../../shared/protocol/rollout-events.ts';
import { OUTCOMES } from '../../shared/protocol/rollout-events.ts';
import { ROLLOUT_STATUSES, type RolloutStatus } from '../../shared/protocol/rollout-status.ts';
import type { Action } from './core/act.ts';
import type { Report } from './core/hear-report.ts';

/** Of the rollouts that this hub drives, at the moment of the scrape. */
export interface DrivenRollout {
  readonly status: RolloutStatus;
  readonly inFlight: number;
}

/** A pause promises to be answered within 250 ms. */
const ORDER_BUCKETS_S = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

export class RolloutMetrics {
  readonly #registry: Registry;
  readonly #ended: Counter<'outcome'>;
  readonly #hosts: Counter<'outcome' | 'class'>;
  readonly #checks: Counter<'of' | 'answer'>;
  readonly #orders: Histogram<'action'>;

  constructor(registry: Registry) {
    this.#registry = registry;
    const registers = [registry];
    this.#ended = new Counter({
      name: 'fairlead_hub_rollouts_ended_total',
      help: 'Rollouts that ended, by how',
      labelNames: ['outcome'],
      registers,
    });
    for (const outcome of OUTCOMES) this.#ended.inc({ outcome }, 0);
    this.#hosts = new Counter({
      name: 'fairlead_hub_rollout_hosts_total',
      help: 'Hosts of rollouts by what became of them, each attempt counted; failures have their class',
      labelNames: ['outcome', 'class'],
      registers,
    });
    this.#checks = new Counter({
      name: 'fairlead_hub_rollout_checks_total',
      help: 'Rounds of checks of hosts and of gates, by answer',
      labelNames: ['of', 'answer'],
      registers,
    });
    this.#orders = new Histogram({
      name: 'fairlead_hub_rollout_order_duration_seconds',
      help: 'Time from an order such as pause to its acknowledgement, after which nothing is begun against it',
      labelNames: ['action'],
      buckets: ORDER_BUCKETS_S,
      registers,
    });
  }

  /** What is told by looking. To be called once. */
  watch(driven: () => readonly DrivenRollout[]): void {
    const rollouts = new Gauge({
      name: 'fairlead_hub_rollouts',
      help: 'Rollouts that this hub drives, by status',
      labelNames: ['status'],
      registers: [],
      collect() {
        const counts = Map.groupBy(driven(), ({ status }) => status);
        for (const status of OPEN) this.set({ status }, counts.get(status)?.length ?? 0);
      },
    });
    const inFlight = new Gauge({
      name: 'fairlead_hub_rollout_hosts_in_flight',
      help: 'Hosts that rollouts are changing, checking or taking back',
      registers: [],
      collect() {
        this.set(driven().reduce((sum, rollout) => sum + rollout.inFlight, 0));
      },
    });
    this.#registry.registerMetric(rollouts);
    this.#registry.registerMetric(inFlight);
  }

  /** Durable facts. */
  told(facts: readonly RolloutFact[]): void {
    const counts = new Map<string, number>();
    for (const fact of facts) {
      const outcome = OUTCOME_OF[fact.type];
      if (fact.type === 'ended') this.#ended.inc({ outcome: fact.outcome });
      else if (fact.type === 'host-failed') this.#hosts.inc({ outcome: 'failed', class: fact.class });
      else if (outcome !== undefined) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    }
    for (const [outcome, count] of counts) this.#hosts.inc({ outcome, class: '' }, count);
  }

  reported(report: Report): void {
    if (report.kind === 'checked') this.#checks.inc({ of: 'host', answer: report.answer });
    else if (report.kind === 'gate-answered') this.#checks.inc({ of: 'gate', answer: report.answer });
  }

  /** One that was acknowledged. */
  ordered(action: Action['kind'], durationMs: number): void {
    this.#orders.observe({ action }, durationMs / 1000);
  }
}

const OPEN = ROLLOUT_STATUSES.filter((status) => !OUTCOMES.some((outcome) => outcome === status));

const OUTCOME_OF: Partial<Record<RolloutFact['type'], string>> = {
  'host-done': 'done',
  'host-skipped': 'skipped',
  'host-passed-over': 'passed-over',
  'host-restored': 'restored',
  'undo-failed': 'undo-failed',
};
