/**
 * How much the other side may send on one channel. Memory is reserved before credit is given; credit comes back on consumption alone.
 *
 * The window doubles when it is what holds the stream up: the sender said that it had used all its credit (EXHAUSTED), and yet the
 * reader has read everything. A slow reader never gets there: credit is renewed at a quarter of the window, long before it has read
 * the rest. So no clock is needed, and it works through relays, where no side knows the whole round trip.
 *
 * It halves again when much has come without that. What was granted cannot be taken back, so the memory is given up as credit is not
 * renewed; a stream on which nothing comes keeps what it has.
 */
import type { MemoryPool } from './pool.ts';

/** Windows' worth of bytes without need of it, after which a window is twice too great. */
const WINDOWS_TO_SHRINK = 16;

export class ReceiveWindow {
  readonly #pool: MemoryPool;
  readonly #minBytes: number;
  readonly #maxBytes: number;
  /** Reserved. */
  #windowBytes: number;
  /** What credit is renewed up to: the window, or half of it while it shrinks. */
  #targetBytes: number;
  /** Offset of consumption when the window was last needed whole. */
  #neededAt = 0;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #limit: number;
  #senderExhausted = false;

  /** `initialBytes` must be reserved already; the window owns the reservation from here on. */
  constructor(pool: MemoryPool, initialBytes: number, maxBytes: number) {
    this.#pool = pool;
    this.#windowBytes = initialBytes;
    this.#targetBytes = initialBytes;
    this.#minBytes = initialBytes;
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
    const isDry = this.#senderExhausted && this.#consumedBytes === this.#receivedBytes;
    if (isDry) this.#grow();
    else this.#shrink();
    const limit = this.#consumedBytes + this.#targetBytes;
    if (limit <= this.#limit) return undefined;
    if (!isDry && limit - this.#limit < this.#targetBytes / 4) return undefined;
    this.#limit = limit;
    return { limit, acked: this.#consumedBytes };
  }

  /** The channel is over: gives the memory back. Safe to call twice. */
  release(): void {
    this.#pool.release(this.#windowBytes);
    this.#windowBytes = 0;
  }

  #grow(): void {
    this.#senderExhausted = false;
    this.#neededAt = this.#consumedBytes;
    const more = Math.min(this.#windowBytes, this.#maxBytes - this.#windowBytes);
    if (this.#targetBytes === this.#windowBytes && more > 0 && this.#pool.reserve(more)) this.#windowBytes += more;
    this.#targetBytes = this.#windowBytes;
  }

  #shrink(): void {
    if (this.#consumedBytes - this.#neededAt > WINDOWS_TO_SHRINK * this.#windowBytes) {
      this.#neededAt = this.#consumedBytes;
      this.#targetBytes = Math.max(this.#minBytes, this.#windowBytes / 2);
    }
    if (this.#targetBytes < this.#windowBytes && this.#limit - this.#consumedBytes <= this.#targetBytes) {
      this.#pool.release(this.#windowBytes - this.#targetBytes);
      this.#windowBytes = this.#targetBytes;
    }
  }
}
