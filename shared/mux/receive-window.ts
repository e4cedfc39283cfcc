/**
 * How much the other side may send on one channel. Memory is reserved before credit is given; credit comes back on consumption alone.
 *
 * The window doubles when it is what holds the stream up: the sender said that it had used all its credit (EXHAUSTED), and yet the
 * reader has read everything. A slow reader never gets there: credit is renewed at a quarter of the window, long before it has read
 * the rest. So no clock is needed, and it works through relays, where no side knows the whole round trip.
 */
import type { MemoryPool } from './pool.ts';

export class ReceiveWindow {
  readonly #pool: MemoryPool;
  readonly #maxBytes: number;
  #windowBytes: number;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #limit: number;
  #senderExhausted = false;

  /** `initialBytes` must be reserved already; the window owns the reservation from here on. */
  constructor(pool: MemoryPool, initialBytes: number, maxBytes: number) {
    this.#pool = pool;
    this.#windowBytes = initialBytes;
    this.#limit = initialBytes;
    this.#maxBytes = maxBytes;
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  received(bytes: number, exhausted: boolean): void {
    this.#receivedBytes += bytes;
    this.#senderExhausted = exhausted;
  }

  /** The reader took `bytes`. What to grant, if it is worth a frame by now. */
  consumed(bytes: number): { limit: number; acked: number } | undefined {
    this.#consumedBytes += bytes;
    if (this.#senderExhausted && this.#consumedBytes === this.#receivedBytes) this.#grow();
    const limit = this.#consumedBytes + this.#windowBytes;
    if (limit - this.#limit < this.#windowBytes / 4) return undefined;
    this.#limit = limit;
    return { limit, acked: this.#consumedBytes };
  }

  /** The channel is over: gives the memory back. Safe to call twice. */
  release(): void {
    this.#pool.release(this.#windowBytes);
    this.#windowBytes = 0;
  }

  #grow(): void {
    const more = Math.min(this.#windowBytes, this.#maxBytes - this.#windowBytes);
    if (more <= 0 || !this.#pool.reserve(more)) return;
    this.#windowBytes += more;
    this.#senderExhausted = false;
  }
}
