/**
 * The rollout as one function: a cause and the world in, facts and effects out. It reads no clock, opens nothing and waits for nothing.
 *
 *     cause ──▶ act / hear-report ──▶ schedule ──▶ facts (taken in already, to be made durable) and effects (to be done after that)
 */
import { act, type Order } from './act.ts';
import { hearReport, type Report } from './hear-report.ts';
import { schedule } from './schedule.ts';
import type { RolloutState } from './state.ts';
import { Turn, type World } from './turn.ts';

export type Cause =
  | { readonly kind: 'order'; readonly order: Order }
  | { readonly kind: 'report'; readonly report: Report }
  /** Time has passed, or the world has changed. */
  | { readonly kind: 'tick' };

export interface Step extends Pick<Turn, 'facts' | 'effects'> {
  /** Why no further host is started at this moment. */
  readonly blocked: string | undefined;
}

/** @throws FairleadError for an order that is refused; nothing has changed then */
export function step(state: RolloutState, cause: Cause, world: World): Step {
  const turn = new Turn(state, world);
  if (cause.kind === 'order') act(turn, cause.order);
  else if (cause.kind === 'report') hearReport(turn, cause.report);
  const blocked = schedule(turn);
  return { facts: turn.facts, effects: turn.effects, blocked };
}
