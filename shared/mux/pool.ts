/**
 * Memory that may be promised: credit is reserved here before it is given, so that the sum of all windows has a bound.
 *
 * A pool may have a parent (session in process); a reservation counts in both or in neither.
 */
import { PROCESS_POOL_BYTES } from './limits.ts';

export class MemoryPool {
  readonly limitBytes: number;
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

  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#parent?.release(bytes);
  }
}

/** The pool of all sessions of this process that are not given another. */
export const processPool = new MemoryPool(PROCESS_POOL_BYTES);
