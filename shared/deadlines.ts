/**
 * Deadlines of many calls on one timer. Nearly all calls end long before theirs, so to set one and to strike it off must cost next to
 * nothing; a timer for each would cost more than to read the call's text.
 *
 *     idle ──set──▶ armed for the earliest ──it is due──▶ those that are over are told ──▶ armed for the next, or idle
 *
 * Struck off, a deadline leaves the timer as it is: when it is due and finds nothing, nothing happens.
 */
import type { Clock, Timer } from './clock.ts';

export interface Deadline {
  /** On the clock of the set. */
  readonly atMs: number;
  readonly onOver: () => void;
}

export class Deadlines {
  readonly #clock: Clock;
  readonly #waiting = new Set<Deadline>();
  #timer: Timer | undefined;
  #armedForMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `onOver` is called once, unless it is struck off before; it must not throw. */
  set(atMs: number, onOver: () => void): Deadline {
    const deadline = { atMs, onOver };
    this.#waiting.add(deadline);
    if (atMs < this.#armedForMs) this.#arm(atMs);
    return deadline;
  }

  strike(deadline: Deadline): void {
    this.#waiting.delete(deadline);
  }

  /** None is told any more. */
  stop(): void {
    this.#waiting.clear();
    this.#timer?.cancel();
    this.#armedForMs = Number.POSITIVE_INFINITY;
  }

  #arm(atMs: number): void {
    this.#timer?.cancel();
    this.#armedForMs = atMs;
    this.#timer = this.#clock.setTimeout(() => this.#onDue(), Math.max(0, atMs - this.#clock.now()));
  }

  #onDue(): void {
    this.#armedForMs = Number.POSITIVE_INFINITY;
    const now = this.#clock.now();
    const over = [...this.#waiting].filter(({ atMs }) => atMs <= now);
    for (const deadline of over) {
      // One that is told may strike off another.
      if (this.#waiting.delete(deadline)) deadline.onOver();
    }
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { atMs } of this.#waiting) nextMs = Math.min(nextMs, atMs);
    if (nextMs < this.#armedForMs) this.#arm(nextMs);
  }
}
