/** A rate in bytes a second, for all that passes it together: images for one host must leave room on its line for streams. */
import { setTimeout as sleep } from 'node:timers/promises';

/** What may pass at once after a pause, as a part of a second's worth. */
const BURST_S = 0.1;

export class Throttle {
  readonly #bytesPerSecond: number;
  /** When what has passed so far would have passed at the rate; monotonic milliseconds. */
  #paidUntil = 0;

  /** 0 is no limit. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when so many bytes may pass. */
  async pass(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const now = performance.now();
    this.#paidUntil = Math.max(this.#paidUntil, now - BURST_S * 1000) + (bytes / this.#bytesPerSecond) * 1000;
    const waitMs = this.#paidUntil - now;
    if (waitMs > 0) await sleep(waitMs);
  }
}
