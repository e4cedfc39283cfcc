/**
 * One round of the gate of a wave: webhooks, and hosts that were changed compared with hosts that were not. All checks must be good; the first
 * that is not is told.
 *
 * A comparison asks so many hosts at once, each for `timeoutMs` at most: of 20 a side, all are asked within twice that. Both sides are asked in
 * turn, so that what passes while a round lasts befalls both.
 */
import type { JsonObject } from '../../../shared/errors.ts';
import type { ControlCheck, GateRules, HealthRules } from '../../../shared/protocol/rollout-checks.ts';
import type { Step } from '../../../shared/protocol/rollout-spec.ts';
import type { Actuator, Observation } from '../actuator.ts';
import { compareGroups, type Groups, type Look } from '../core/control-group.ts';
import { lookAtHost } from './host-look.ts';

export interface GateRound {
  readonly rollout: string;
  readonly wave: number;
  readonly rules: GateRules;
  readonly health: HealthRules;
  readonly steps: readonly Step[];
  /** For webhooks. */
  readonly figures: JsonObject;
  /** As many as may be asked; a check takes the first of them. */
  readonly groups: Groups;
  /** Why no host can be compared at this moment. */
  readonly unsettled: string | undefined;
  /** What was recorded of a host before its change. */
  readonly previousOf: (host: string) => readonly unknown[];
  /** When the rollout began, in Unix milliseconds. */
  readonly sinceMs: number;
  readonly actuator: Actuator;
  readonly now: () => number;
  readonly signal: AbortSignal;
}

const AT_ONCE = 20;
const GOOD: Observation = { answer: 'success', detail: '' };

/** Never rejects, but when it is aborted. */
export async function askGate(round: GateRound): Promise<Observation> {
  for (const check of round.rules.checks) {
    const observed = check.kind === 'control' ? await compare(check, round) : await askWebhook(check.url, round);
    round.signal.throwIfAborted();
    if (observed.answer !== 'success') return observed;
  }
  return GOOD;
}

async function askWebhook(url: string, round: GateRound): Promise<Observation> {
  const { rollout, wave, figures, groups, rules, actuator, signal } = round;
  const body = { rollout, wave, ...figures, changed: groups.changed, control: groups.control };
  return await actuator.webhook(url, body, { timeoutMs: rules.timeoutMs, signal });
}

async function compare(check: ControlCheck, round: GateRound): Promise<Observation> {
  if (round.unsettled !== undefined) return { answer: 'inconclusive', detail: round.unsettled };
  const changed = round.groups.changed.slice(0, check.hosts);
  const control = round.groups.control.slice(0, check.hosts);
  const looks = await lookAtAll(alternating(changed, control), check, round);
  const seenOf = (hosts: readonly string[]): Look[] => hosts.flatMap((host) => looks.get(host) ?? []);
  return compareGroups(check, seenOf(changed), seenOf(control));
}

async function lookAtAll(
  hosts: readonly string[],
  { checks }: ControlCheck,
  round: GateRound,
): Promise<ReadonlyMap<string, Look>> {
  const { rollout, rules, health, steps, previousOf, sinceMs, actuator, now, signal } = round;
  const looks = new Map<string, Look>();
  const waiting = hosts.values();
  const ask = async (): Promise<void> => {
    for (const host of waiting) {
      const about = { rollout, host, checks: checks ?? health.checks, steps, previous: previousOf(host), sinceMs };
      looks.set(host, await lookAtHost({ ...about, actuator, timeoutMs: rules.timeoutMs, now, signal }));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  return looks;
}

function alternating(some: readonly string[], others: readonly string[]): string[] {
  const pairs = Array.from({ length: Math.max(some.length, others.length) }, (_, index) => [some[index], others[index]]);
  return pairs.flat().filter((host) => host !== undefined);
}
