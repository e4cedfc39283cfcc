/**
 * What a rule of the rollout does when it is broken: pause, abort or roll back, once. While a person has paused it, none does anything: that
 * person has it in hand.
 */
import type { Initiator } from '../../../shared/protocol/rollout-events.ts';
import type { Reaction } from '../../../shared/protocol/rollout-values.ts';
import type { Turn } from './turn.ts';

type Rule = Extract<Initiator, { kind: 'rule' }>['rule'];

export function react(turn: Turn, rule: Rule, action: Reaction, reason: string): void {
  const { phase, paused, spec } = turn.state;
  if (phase.kind !== 'forward' || paused?.isByPerson === true) return;
  const because = { by: { kind: 'rule', rule }, reason } as const;
  if (action === 'abort') turn.emit({ type: 'aborted', ...because });
  else if (action === 'rollback') turn.emit({ type: 'rollback-begun', scope: spec.rollback.scope, except: [], ...because });
  else if (paused === undefined) turn.emit({ type: 'paused', ...because });
}
