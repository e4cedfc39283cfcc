/**
 * What is to be done because of an event that is durable. An effect may come more than once, after a crash or when a rollout is resumed: what
 * runs under its key already is not begun again, and every command has an id that follows from its host and attempt, so that the host
 * answers a repeat from its journal.
 */
import type { RolloutFact } from '../../../shared/protocol/rollout-events.ts';
import type { HostState, RolloutState } from './state.ts';

export type Effect =
  /** Ask what the host is like before its change. */
  | { readonly kind: 'record'; readonly host: string; readonly attempt: number }
  | { readonly kind: 'change'; readonly host: string; readonly attempt: number }
  | { readonly kind: 'undo'; readonly host: string; readonly attempt: number }
  /** One round of the host's checks, after `delayMs`. */
  | { readonly kind: 'check'; readonly host: string; readonly run: number; readonly delayMs: number }
  /** One round of the checks of the wave's gate. */
  | { readonly kind: 'gate'; readonly wave: number; readonly run: number; readonly delayMs: number };

export function keyOf(effect: Effect): string {
  if (effect.kind === 'gate' || effect.kind === 'check') return `${effect.kind} ${effect.run}`;
  return `${effect.kind} ${effect.host} ${effect.attempt}`;
}

/** After the state has taken the event in. */
export function effectsOf(state: RolloutState, fact: RolloutFact): readonly Effect[] {
  switch (fact.type) {
    case 'host-started':
    case 'host-recorded':
    case 'host-changed':
    case 'undo-started':
      return effectsOfHost(state, fact.host);
    case 'stage-begun':
      return effectsOfGate(state);
    case 'resumed':
    case 'retried':
      return outstanding(state);
    case 'promoted':
      return outstanding(state).filter(({ kind }) => kind !== 'gate');
    default:
      return [];
  }
}

/** All that is under way: what a hub begins with that takes a rollout over. */
export function outstanding(state: RolloutState): readonly Effect[] {
  return [...[...state.inFlight, ...state.undoing].flatMap(effectOf), ...effectsOfGate(state)];
}

function effectsOfHost({ hosts }: RolloutState, name: string): readonly Effect[] {
  const host = hosts.get(name);
  return host === undefined ? [] : effectOf(host);
}

function effectOf({ host, phase, attempt, undoAttempt, checks }: HostState): readonly Effect[] {
  if (phase === 'recording') return [{ kind: 'record', host, attempt }];
  if (phase === 'changing') return [{ kind: 'change', host, attempt }];
  if (phase === 'undoing') return [{ kind: 'undo', host, attempt: undoAttempt }];
  if (phase === 'verifying' && checks?.stopped === false) return [{ kind: 'check', host, run: checks.id, delayMs: 0 }];
  return [];
}

function effectsOfGate({ gate, wave, paused, phase }: RolloutState): readonly Effect[] {
  if (gate === undefined || gate.stopped || paused !== undefined || phase.kind !== 'forward') return [];
  return [{ kind: 'gate', wave, run: gate.id, delayMs: 0 }];
}
