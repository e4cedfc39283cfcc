/**
 * VMs that a rollout has in hand: it stops one, gives it another spec and starts it again, each by a command of its own, and what keeps the VMs of
 * this host as they are to be leaves it alone meanwhile. For the hub may be gone in between, that is over some time after the last command.
 *
 * An agent that ends in between has written down those commands: the next one knows by the journal what is in hand (`recall`).
 */
import { isRolloutActor } from '../../shared/protocol/rollout-actor.ts';
import type { Journal } from '../journal/journal.ts';

/** A hub that is started anew goes on with its rollouts before that. */
const IN_HAND_MS = 120_000;

interface Hand {
  /** Commands that run. */
  running: number;
  /** After they have ended. */
  untilMs: number;
}

export interface VmsInHandOptions {
  readonly journal: Pick<Journal, 'unfinished'>;
  /** Milliseconds that never go back. */
  readonly now?: (() => number) | undefined;
  /** Unix milliseconds, by which the journal tells when a command ended. */
  readonly wallClock?: (() => number) | undefined;
}

export class VmsInHand {
  readonly #journal: VmsInHandOptions['journal'];
  readonly #now: () => number;
  readonly #wallClock: () => number;
  readonly #hands = new Map<string, Hand>();
  #onLeft: (() => void) | undefined;

  constructor({ journal, now = () => performance.now(), wallClock = Date.now }: VmsInHandOptions) {
    this.#journal = journal;
    this.#now = now;
    this.#wallClock = wallClock;
  }

  /** What the agent before this one had in hand. A clock that was set keeps nothing in it for longer. @throws FairleadError JOURNAL_FAILED */
  async recall(): Promise<void> {
    const wallMs = this.#wallClock();
    for (const { vm, actor, endedAt } of await this.#journal.unfinished(wallMs - IN_HAND_MS)) {
      if (vm === undefined || !isRolloutActor(actor)) continue;
      // The hub asks again for what was cut off.
      const agoMs = endedAt === undefined ? 0 : Math.max(0, wallMs - Date.parse(endedAt));
      const hand = this.#handOf(vm);
      hand.untilMs = Math.max(hand.untilMs, this.#now() + IN_HAND_MS - agoMs);
    }
  }

  /** A command of a rollout runs until it is disposed. */
  take(vm: string): Disposable {
    const hand = this.#handOf(vm);
    hand.running += 1;
    return {
      [Symbol.dispose]: () => {
        hand.running -= 1;
        hand.untilMs = this.#now() + IN_HAND_MS;
        this.#onLeft?.();
      },
    };
  }

  /** For how long it is left alone, unless there are further commands; 0 when it is in nobody's hand. */
  leftAloneMs(vm: string): number {
    const hand = this.#hands.get(vm);
    if (hand === undefined) return 0;
    if (hand.running > 0) return IN_HAND_MS;
    const leftMs = hand.untilMs - this.#now();
    if (leftMs <= 0) this.#hands.delete(vm);
    return Math.max(0, leftMs);
  }

  /** Called when a command has ended. */
  listen(onLeft: () => void): void {
    this.#onLeft = onLeft;
  }

  #handOf(vm: string): Hand {
    const hand = this.#hands.get(vm) ?? { running: 0, untilMs: 0 };
    this.#hands.set(vm, hand);
    return hand;
  }
}
