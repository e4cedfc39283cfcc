/** One turn of a rollout: the events that a cause has, each taken in at once so that the next is decided upon what is true by then. */
import type { RolloutFact } from '../../../shared/protocol/rollout-events.ts';
import { type Effect, effectsOf } from './effects.ts';
import { evolve } from './evolve.ts';
import type { Candidate } from './host-order.ts';
import type { RolloutState } from './state.ts';

/** What a rollout must know of the world to decide. Asked anew in each turn, and answered at once. */
export interface World {
  /** Rollout time, milliseconds. */
  readonly t: number;
  /** Unix milliseconds. */
  readonly atMs: number;
  /** Whether the host has a line. */
  isUp(host: string): boolean;
  /** Whether the host uses up the budget already, whoever keeps it from its work. */
  isUnavailable(host: string): boolean;
  /** How many of all its hosts, and of one zone, may become unavailable before its budget is used up. */
  room(): { readonly total: number; zone(zone: string): number };
  /** Why no host of the zone may be started just now: no change window is open, or changes are frozen. */
  closed(zone: string): string | undefined;
  /** Hosts that match the selector by now, are not in the plan and in no other rollout's hands. */
  lateJoiners(): readonly Candidate[];
}

export class Turn {
  readonly state: RolloutState;
  readonly world: World;
  readonly facts: RolloutFact[] = [];
  readonly effects: Effect[] = [];

  constructor(state: RolloutState, world: World) {
    this.state = state;
    this.world = world;
  }

  emit(fact: RolloutFact): void {
    evolve(this.state, fact, this.world);
    this.facts.push(fact);
    this.effects.push(...effectsOf(this.state, fact));
  }

  /** Something that is no fact of the journal. */
  ask(effect: Effect): void {
    this.effects.push(effect);
  }
}
