/**
 * Rounds of checks, for a host after its change or for the gate of a wave:
 *
 *     asking ──`successes` good rounds on end, over `minHealthyMs`──▶ passed
 *        ├─────`failures` bad rounds on end──▶ failed        (a host: only once it was healthy, for until then it may be starting)
 *        └─────the deadline──▶ failed when the last round was bad, else inconclusive
 */
import type { GateRules, HealthRules } from '../../../shared/protocol/rollout-checks.ts';

export type Answer = 'success' | 'failure' | 'inconclusive';
export type Verdict = 'passed' | 'failed' | 'inconclusive';

export interface CheckRun {
  /** Answers carry it; those of another run are dropped. */
  readonly id: number;
  readonly begunT: number;
  successes: number;
  failures: number;
  healthySinceT: number | undefined;
  wasHealthy: boolean;
  /** Why the last round was not good, as long as there is no verdict. */
  detail: string | undefined;
  /** It has come to no verdict and asks no more until the rollout is resumed. */
  stopped: boolean;
  passed: boolean;
}

export type Rules = Pick<HealthRules | GateRules, 'successes' | 'failures' | 'deadlineMs'> & {
  readonly minHealthyMs?: number;
  /** Failures before the first success count only at the deadline. */
  readonly patient: boolean;
};

export function newRun(id: number, t: number): CheckRun {
  return {
    id,
    begunT: t,
    successes: 0,
    failures: 0,
    healthySinceT: undefined,
    wasHealthy: false,
    detail: undefined,
    stopped: false,
    passed: false,
  };
}

/** Undefined: ask again. */
export function hear(run: CheckRun, answer: Answer, t: number, rules: Rules): Verdict | undefined {
  if (answer === 'success') {
    run.successes += 1;
    run.failures = 0;
    run.wasHealthy = true;
    run.healthySinceT ??= t;
    const isProven = t - run.healthySinceT >= (rules.minHealthyMs ?? 0);
    return run.successes >= rules.successes && isProven ? 'passed' : undefined;
  }
  run.successes = 0;
  run.healthySinceT = undefined;
  run.failures = answer === 'failure' ? run.failures + 1 : 0;
  if (run.failures >= rules.failures && (run.wasHealthy || !rules.patient)) return 'failed';
  if (t - run.begunT < rules.deadlineMs) return undefined;
  return answer === 'failure' ? 'failed' : 'inconclusive';
}
