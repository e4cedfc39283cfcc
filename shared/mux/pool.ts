/**
 * Memory that may be promised: credit is reserved here before it is given, so that the sum of all windows has a bound.
 *
 *     0 ............. 1/4 .......... 1/2 .......... 3/4 .......... limit
 *     new streams: all they want │ half of it │ a quarter of it
 *     streams that want more:    │ those that have lasted     │ none
 *
 * So streams that have grown leave room for new ones: with the sizes of limits.ts, for as many as a line may have. And a thousand that nobody
 * reads, whose windows are never given back, leave room for some to grow: each of them looked like one that is read for as long as a socket
 * behind it took what came. A pool may have a parent (session in process); a reservation counts
 * in both or in neither.
 */
import { PROCESS_POOL_BYTES } from './limits.ts';

const WHOLE_UP_TO = 1 / 4;
const HALF_UP_TO = 1 / 2;
const MORE_UP_TO = 3 / 4;
const MORE_AT_ONCE_UP_TO = 1 / 4;

/** Time in which each window that runs dry counts once, in milliseconds. */
const DRY_SLOT_MS = 50;

/**
 * What the windows of a session that ran dry lately have on average. Only those below it grow, so that streams which want the same get the
 * same: where a window is what a stream waits for, twice the window is twice the share of the line.
 */
export class DryWindows {
  #slot = Number.NEGATIVE_INFINITY;
  #count = 0;
  #bytes = 0;
  #meanBytes = Number.POSITIVE_INFINITY;

  /** Of the time before this one; infinite when fewer than two ran dry then. */
  get meanBytes(): number {
    return this.#meanBytes;
  }

  /** One of `bytes` ran dry, which was last noted at `lastSlot`. Returns what to say the next time. */
  note(bytes: number, lastSlot: number, now: number): number {
    const slot = Math.floor(now / DRY_SLOT_MS);
    if (slot !== this.#slot) {
      this.#meanBytes = slot === this.#slot + 1 && this.#count > 1 ? this.#bytes / this.#count : Number.POSITIVE_INFINITY;
      this.#slot = slot;
      this.#count = 0;
      this.#bytes = 0;
    }
    if (slot !== lastSlot) {
      this.#count += 1;
      this.#bytes += bytes;
    }
    return slot;
  }
}

export class MemoryPool {
  readonly limitBytes: number;
  readonly dryWindows = new DryWindows();
  readonly #parent: MemoryPool | undefined;
  #usedBytes = 0;

  constructor(limitBytes: number, parent?: MemoryPool) {
    this.limitBytes = limitBytes;
    this.#parent = parent;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** False, and nothing is reserved, when that much is not left. */
  reserve(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.limitBytes) return false;
    if (this.#parent !== undefined && !this.#parent.reserve(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** For a stream that can do without: leaves what new ones need, and much of it to those that have `lasted`. */
  reserveMore(bytes: number, lasted: boolean): boolean {
    return this.#usedShare(bytes) <= (lasted ? MORE_UP_TO : MORE_AT_ONCE_UP_TO) && this.reserve(bytes);
  }

  /** For a new stream that wants `bytes`: how many it got, less where little is left; 0 when there is no room even for that. */
  reserveFirst(bytes: number): number {
    const used = this.#usedShare(bytes);
    const first = used <= WHOLE_UP_TO ? bytes : used <= HALF_UP_TO ? Math.ceil(bytes / 2) : Math.ceil(bytes / 4);
    return this.reserve(first) ? first : 0;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#parent?.release(bytes);
  }

  /** Of the fuller of the two pools, with `bytes` more. */
  #usedShare(bytes: number): number {
    const own = (this.#usedBytes + bytes) / this.limitBytes;
    return this.#parent === undefined ? own : Math.max(own, this.#parent.#usedShare(bytes));
  }
}

/** The pool of all sessions of this process that are not given another. */
export const processPool = new MemoryPool(PROCESS_POOL_BYTES);
