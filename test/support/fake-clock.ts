/** Virtual time: nothing happens until `advance`, which runs the timers that come due in their order. */
import type { Clock, Timer } from '../../shared/clock.ts';

interface Waiting {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

export class FakeClock implements Clock {
  #nowMs = 0;
  #order = 0;
  readonly #waiting = new Set<Waiting>();

  now(): number {
    return this.#nowMs;
  }

  setTimeout(callback: () => void, delayMs: number): Timer {
    const entry: Waiting = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, callback };
    this.#waiting.add(entry);
    return { cancel: () => void this.#waiting.delete(entry) };
  }

  /** Timers that were set and neither ran nor were cancelled. */
  get pendingTimers(): number {
    return this.#waiting.size;
  }

  /** Time of the earliest timer, or undefined. */
  get nextAtMs(): number | undefined {
    return this.#earliest()?.atMs;
  }

  /** Goes on by `ms`, running what comes due on the way, each at its own time; timers set by timers run too when they fall inside. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (let next = this.#earliest(); next !== undefined && next.atMs <= endMs; next = this.#earliest()) {
      this.#waiting.delete(next);
      this.#nowMs = next.atMs;
      next.callback();
    }
    this.#nowMs = endMs;
  }

  #earliest(): Waiting | undefined {
    let first: Waiting | undefined;
    for (const entry of this.#waiting) {
      if (first === undefined || entry.atMs < first.atMs || (entry.atMs === first.atMs && entry.order < first.order))
        first = entry;
    }
    return first;
  }
}
