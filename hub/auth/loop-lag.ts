/**
 * How far the hub is behind with its work: by how much a timer of its event loop fires late. It grows as soon as more is taken on than the
 * processor does, whatever it is spent on and whoever else wants the processor.
 */
import type { Clock, Timer } from '../../shared/clock.ts';

const EVERY_MS = 50;

export class LoopLag implements Disposable {
  readonly #clock: Clock;
  #dueMs = 0;
  #lastMs = 0;
  #timer: Timer;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#timer = this.#schedule();
  }

  /** Milliseconds: of the last turn that was measured, or of the one that is under way where that is longer already. */
  get ms(): number {
    return Math.max(this.#lastMs, this.#clock.now() - this.#dueMs);
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
  }

  #schedule(): Timer {
    this.#dueMs = this.#clock.now() + EVERY_MS;
    return this.#clock.setTimeout(() => {
      this.#lastMs = Math.max(0, this.#clock.now() - this.#dueMs);
      this.#timer = this.#schedule();
    }, EVERY_MS);
  }
}
