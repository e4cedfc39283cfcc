/**
 * The rollout as two functions: causes go in one by one, and then it is decided what follows from all that is known by then. Neither reads a clock,
 * opens anything or waits for anything.
 *
 *     cause ──▶ hear: act / hear-report ──┐
 *     cause ──▶ hear ─────────────────────┴──▶ goOn: schedule
 *                 └──▶ facts (taken in already, to be made durable) and effects (to be done after that) ◀──┘
 *
 * A failure is held against the thresholds as soon as it is heard, before the next one: it stops all starts that are decided after it.
 */
import { act, type Order } from './act.ts';
import { hearReport, type Report } from './hear-report.ts';
import { heedThresholds, schedule } from './schedule.ts';
import type { RolloutState } from './state.ts';
import { Turn, type World } from './turn.ts';

export type Cause =
  | { readonly kind: 'order'; readonly order: Order }
  | { readonly kind: 'report'; readonly report: Report }
  /** Time has passed, or the world has changed. */
  | { readonly kind: 'tick' };

export type Step = Pick<Turn, 'facts' | 'effects'>;

/** @throws FairleadError for an order that is refused; nothing has changed then */
export function hear(state: RolloutState, cause: Cause, world: World): Step {
  const turn = new Turn(state, world);
  if (cause.kind === 'order') act(turn, cause.order);
  else if (cause.kind === 'report') {
    hearReport(turn, cause.report);
    heedThresholds(turn);
  }
  return turn;
}

export interface Onward extends Step {
  /** Why no further host is started at this moment. */
  readonly blocked: string | undefined;
}

export function goOn(state: RolloutState, world: World): Onward {
  const turn = new Turn(state, world);
  const blocked = schedule(turn);
  return { facts: turn.facts, effects: turn.effects, blocked };
}
