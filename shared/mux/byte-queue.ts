/**
 * Bytes in order, as the chunks they came in.
 *
 * A small chunk is copied: it is mostly a view of a much larger message, which it would keep alive for as long as it waits, and a
 * sender of single bytes would fill memory with views. Copies of small chunks that wait together share a slab and come out as one. So what
 * waits takes no more than some times its length.
 */
import { WIRE } from './limits.ts';

const COPY_BELOW_BYTES = 2048;
/** A longer one is copied where the memory that it lies in is so many times longer: full frames of a full message are not. */
const HOLDS_AT_MOST = 5;
const SLAB_BYTES = 8192;

export class ByteQueue {
  #chunks: Uint8Array[] = [];
  #head = 0;
  #length = 0;
  /** Where the last chunk was copied to, and how much of it is taken. */
  #slab: Uint8Array | undefined;
  #slabUsed = 0;
  /** Whether a part of the first chunk has been taken. */
  #isCut = false;

  /** Bytes that wait. */
  get length(): number {
    return this.#length;
  }

  /** Of the first chunk. */
  get headBytes(): number {
    return this.#chunks[this.#head]?.length ?? 0;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    if (chunk.length >= COPY_BELOW_BYTES) {
      this.#slab = undefined;
      this.#chunks.push(chunk.length * HOLDS_AT_MOST < chunk.buffer.byteLength ? copyOf(chunk) : chunk);
    } else if (this.#length === 0) {
      // `slice` of a Node Buffer does not copy, the constructor does.
      this.#chunks.push(new Uint8Array(chunk));
    } else {
      this.#append(chunk);
    }
    this.#length += chunk.length;
  }

  /**
   * Whether `shift` will give a chunk as it was pushed, neither cut nor put together with others, and with room for a header before it. A slab
   * that has filled up may be as long as one, but begins where its buffer does, and nothing that came in a frame does.
   */
  isWhole(maxBytes: number): boolean {
    const chunk = this.#chunks[this.#head];
    if (chunk === undefined || this.#isCut || chunk.byteOffset === 0) return false;
    return chunk.length >= COPY_BELOW_BYTES && chunk.length <= maxBytes;
  }

  /** The next bytes, at most `maxBytes` and at most one chunk. */
  shift(maxBytes: number): Uint8Array | undefined {
    const chunk = this.#chunks[this.#head];
    if (chunk === undefined) return undefined;
    if (chunk.length > maxBytes) {
      this.#chunks[this.#head] = chunk.subarray(maxBytes);
      this.#length -= maxBytes;
      this.#isCut = true;
      return chunk.subarray(0, maxBytes);
    }
    this.#length -= chunk.length;
    this.#isCut = false;
    this.#dropHead();
    return chunk;
  }

  clear(): void {
    this.#chunks = [];
    this.#head = 0;
    this.#length = 0;
    this.#slab = undefined;
    this.#isCut = false;
  }

  #append(chunk: Uint8Array): void {
    const last = this.#chunks.at(-1);
    if (this.#slab === undefined || last === undefined || this.#slabUsed + chunk.length > SLAB_BYTES) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slab.set(chunk);
      this.#slabUsed = chunk.length;
      this.#chunks.push(this.#slab.subarray(0, chunk.length));
      return;
    }
    this.#slab.set(chunk, this.#slabUsed);
    this.#slabUsed += chunk.length;
    this.#chunks[this.#chunks.length - 1] = this.#slab.subarray(last.byteOffset, this.#slabUsed);
  }

  #dropHead(): void {
    this.#head += 1;
    if (this.#head === this.#chunks.length) {
      this.clear();
    } else if (this.#head >= 64) {
      // Taking from the front of an array one by one costs its length each time.
      this.#chunks.splice(0, this.#head);
      this.#head = 0;
    }
  }
}

/** With room for a header before it, as it had in its message. */
function copyOf(chunk: Uint8Array): Uint8Array {
  const copy = new Uint8Array(WIRE.headerBytes + chunk.length).subarray(WIRE.headerBytes);
  copy.set(chunk);
  return copy;
}
