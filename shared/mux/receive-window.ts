/**
 * How much the other side may send on one channel. Memory is reserved before credit is given; credit comes back on consumption alone.
 *
 *   the window doubles    when it is dry (the sender said by EXHAUSTED that it had used all its credit, and yet the reader has read
 *                         everything), the bytes of a whole window came within two round trips, or within HOLD_MS, and it is not
 *                         greater than those of the session that run dry are on average
 *                         (where much memory is promised, only if it has lasted: pool.ts)
 *   the window halves     when WINDOWS_TO_SHRINK windows' worth of bytes have come without that
 *
 * A slow reader never lets its window run dry: credit is renewed at half of it at the latest, long before the rest is read. A line that is shared
 * by many does, again and again, since each of them waits for its turn; a greater window would only make them wait for one another where
 * nothing can pass any more, in the hub and in the kernel. So the time counts as well. The round trip is that of the whole way, through
 * relays: from credit to the first byte that could not have been sent without it. The least one seen counts, since every other is made
 * longer by what waits on the way. On another line the way is another.
 *
 * What was granted cannot be taken back, so a window that halves gives its memory up as credit is not renewed; a stream on which nothing
 * comes keeps what it has.
 */
import type { MemoryPool } from './pool.ts';

/** A message. */
const FULL_PIECE_BYTES = 64 * 1024;
/** Windows' worth of bytes without need of it, after which a window is twice too great. */
const WINDOWS_TO_SHRINK = 16;
/**
 * What a stream has to have been read of to count as one that lasts, in windows' worth and in bytes: of one that nobody reads the sockets behind
 * its end take some at once, the most a guest's, 256 KiB in its kernel and 208 KiB in a unix socket on the way. More would hold those back that
 * are read, which begin with little beside many that are not.
 */
const WINDOWS_TO_LAST = 8;
const BYTES_TO_LAST = 512 * 1024;
/** A window that lasts so many round trips never makes its sender wait. */
const WINDOW_ROUND_TRIPS = 2;
/**
 * Nor does one that lasts as long as a busy process on the way may be away, in milliseconds. Beside others a window should not be what its
 * sender waits for: then it is the line's turn (Flight, Scheduler), which is the same for all.
 */
const HOLD_MS = 4;
/**
 * On a way as short as this, in milliseconds, a window is half of what is allowed at most: what the rest would let on its way waits in the
 * programs, where it is ahead of every call.
 */
const SHORT_MS = 0.5;

/** What the other side is to be told: offsets, as in WINDOW. */
export interface Grant {
  readonly limit: number;
  readonly acked: number;
}

export interface ReceiveWindowOptions {
  readonly pool: MemoryPool;
  /** Reserved already; the window owns the reservation from here on. */
  readonly initialBytes: number;
  readonly maxBytes: number;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export class ReceiveWindow {
  readonly #pool: MemoryPool;
  readonly #minBytes: number;
  readonly #maxBytes: number;
  readonly #now: () => number;
  /** Reserved. */
  #windowBytes: number;
  /** What credit is renewed up to: the window, or half of it while it shrinks. */
  #targetBytes: number;
  /** Offset of consumption when the window was last needed whole. */
  #neededAt = 0;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #limit: number;
  #hasEnded = false;
  #senderExhausted = false;
  /** When credit was given of which no byte has come yet, and where it begins. */
  #askedAt: number | undefined;
  #askedFrom = 0;
  #leastRoundTripMs = Number.POSITIVE_INFINITY;
  /** Where the window's worth of bytes began that is coming now, and when. */
  #spanAt = 0;
  #spanSince: number;
  /** When it was last counted among the windows that ran dry. */
  #drySlot = -1;

  constructor({ pool, initialBytes, maxBytes, now }: ReceiveWindowOptions) {
    this.#pool = pool;
    this.#windowBytes = initialBytes;
    this.#targetBytes = initialBytes;
    this.#minBytes = initialBytes;
    this.#limit = initialBytes;
    this.#maxBytes = maxBytes;
    this.#now = now;
    this.#askedAt = now();
    this.#spanSince = this.#askedAt;
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  /** All that was received is consumed. */
  get isEmpty(): boolean {
    return this.#consumedBytes === this.#receivedBytes;
  }

  received(bytes: number, exhausted: boolean): void {
    this.#receivedBytes += bytes;
    this.#senderExhausted = exhausted;
    if (this.#askedAt === undefined || this.#receivedBytes <= this.#askedFrom) return;
    this.#leastRoundTripMs = Math.min(this.#leastRoundTripMs, this.#now() - this.#askedAt);
    this.#askedAt = undefined;
  }

  /** Nothing more comes. What to say of it, if that was not said. */
  ended(): Grant | undefined {
    this.#hasEnded = true;
    return this.isEmpty ? { limit: this.#limit, acked: this.#consumedBytes } : undefined;
  }

  /** The reader took `bytes`. What to grant, if it is worth a frame by now; once no more comes, what is consumed is all that is to be said, and always worth it. */
  consumed(bytes: number): Grant | undefined {
    this.#consumedBytes += bytes;
    if (this.#hasEnded) return { limit: this.#limit, acked: this.#consumedBytes };
    const isDry = this.#senderExhausted && this.isEmpty;
    if (isDry) this.#onDry();
    this.#shrink();
    const limit = this.#consumedBytes + this.#targetBytes;
    // A window that shrinks has nothing to give, but a sender that keeps what it sent, and has no more memory for it, waits for the ack.
    if (limit <= this.#limit) return isDry ? { limit: this.#limit, acked: this.#consumedBytes } : undefined;
    if (!isDry && limit - this.#limit < worthBytes(this.#targetBytes)) return undefined;
    if (this.#askedAt === undefined) {
      this.#askedAt = this.#now();
      this.#askedFrom = this.#limit;
    }
    this.#limit = limit;
    return { limit, acked: this.#consumedBytes };
  }

  /** The stream goes on on another line. */
  rerouted(): void {
    this.#askedAt = undefined;
    this.#leastRoundTripMs = Number.POSITIVE_INFINITY;
  }

  /** The channel is over: gives the memory back. Safe to call twice. */
  release(): void {
    this.#pool.release(this.#windowBytes);
    this.#windowBytes = 0;
  }

  #onDry(): void {
    const now = this.#now();
    this.#senderExhausted = false;
    if (this.#consumedBytes - this.#spanAt < this.#targetBytes) return;
    const holdMs = Math.max(HOLD_MS, WINDOW_ROUND_TRIPS * this.#leastRoundTripMs);
    const { dryWindows } = this.#pool;
    this.#drySlot = dryWindows.note(this.#windowBytes, this.#drySlot, now);
    if (now - this.#spanSince < holdMs && this.#windowBytes <= dryWindows.meanBytes) this.#grow();
    this.#spanAt = this.#consumedBytes;
    this.#spanSince = now;
  }

  #grow(): void {
    this.#neededAt = this.#consumedBytes;
    const mostBytes = this.#leastRoundTripMs < SHORT_MS ? this.#maxBytes / 2 : this.#maxBytes;
    const more = Math.min(this.#windowBytes, mostBytes - this.#windowBytes);
    const lasted = this.#consumedBytes >= Math.max(BYTES_TO_LAST, WINDOWS_TO_LAST * this.#windowBytes);
    if (this.#targetBytes === this.#windowBytes && more > 0 && this.#pool.reserveMore(more, lasted)) this.#windowBytes += more;
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

/**
 * Credit that is worth a frame: a quarter of the window, and of a small one half. A sender that is given little at a time sends little at a
 * time, and each piece costs a call to the kernel at the other end.
 */
function worthBytes(windowBytes: number): number {
  return Math.max(windowBytes / 4, Math.min(windowBytes / 2, FULL_PIECE_BYTES));
}
