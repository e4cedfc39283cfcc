/**
 * VMs that a rollout has in hand: it stops one, gives it another spec and starts it again, each by a command of its own, and what keeps the VMs of
 * this host as they are to be leaves it alone meanwhile. For the hub may be gone in between, that is over some time after the last command.
 */

/** A hub that is started anew goes on with its rollouts before that. */
const IN_HAND_MS = 120_000;

interface Hand {
  /** Commands that run. */
  running: number;
  /** After they have ended. */
  untilMs: number;
}

export class VmsInHand {
  readonly #now: () => number;
  readonly #hands = new Map<string, Hand>();
  #onLeft: (() => void) | undefined;

  /** `now`: milliseconds that never go back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** A command of a rollout runs until it is disposed. */
  take(vm: string): Disposable {
    const hand = this.#hands.get(vm) ?? { running: 0, untilMs: 0 };
    this.#hands.set(vm, hand);
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
}
