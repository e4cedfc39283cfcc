/**
 * Bytes on their way to the other end, kept until it says that it needs them no more: after a line broke they are sent again.
 *
 *     base ≤ acked ........ sent ........ end          offsets; what is kept reaches from base to end
 *     └─ kept, not asked for ─┴─ wait to be sent
 *
 * No more is kept than the other end's window, since nothing is sent beyond its credit. Small chunks share slabs, as in ByteQueue: a
 * stream of single key presses keeps bytes and not objects.
 */
const COPY_BELOW_BYTES = 2048;
const SLAB_BYTES = 8192;
/** Chunks given up before the array is moved together. */
const COMPACT_AT = 64;

export class ReplayQueue {
  #chunks: Uint8Array[] = [];
  /** Index of the oldest kept chunk, and the offset where it begins. */
  #first = 0;
  #base: number;
  /** Index of the chunk that has the next byte to send, and the offset where it begins. */
  #next = 0;
  #nextStart: number;
  #sent: number;
  #end: number;
  /** Where the last chunk lies, if more may follow it there. */
  #slab: Uint8Array | undefined;

  /** `offset` of the stream is where the first byte goes. */
  constructor(offset: number) {
    this.#base = offset;
    this.#nextStart = offset;
    this.#sent = offset;
    this.#end = offset;
  }

  /** Nothing waits to be sent or acked. */
  get isEmpty(): boolean {
    return this.#base === this.#end;
  }

  /** Bytes that wait to be sent. */
  get length(): number {
    return this.#end - this.#sent;
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    if (chunk.length >= COPY_BELOW_BYTES) {
      this.#slab = undefined;
      this.#chunks.push(chunk);
    } else if (this.#first === this.#chunks.length) {
      // `slice` of a Node Buffer does not copy, the constructor does.
      this.#chunks.push(new Uint8Array(chunk));
    } else {
      this.#append(chunk);
    }
    this.#end += chunk.length;
  }

  /** The next bytes, at most `maxBytes` and at most one chunk. They stay kept. */
  shift(maxBytes: number): Uint8Array | undefined {
    const chunk = this.#chunks[this.#next];
    if (chunk === undefined) return undefined;
    const from = this.#sent - this.#nextStart;
    const isWhole = from === 0 && chunk.length <= maxBytes;
    const part = isWhole ? chunk : chunk.subarray(from, Math.min(chunk.length, from + maxBytes));
    this.#sent += part.length;
    if (from + part.length === chunk.length) {
      this.#next += 1;
      this.#nextStart = this.#sent;
    }
    return part;
  }

  /** Bytes below `offset` are not asked for again. */
  ack(offset: number): void {
    for (;;) {
      const chunk = this.#chunks[this.#first];
      if (chunk === undefined || this.#first === this.#next || this.#base + chunk.length > offset) break;
      this.#base += chunk.length;
      this.#first += 1;
    }
    if (this.#first === this.#chunks.length) {
      this.#chunks = [];
      this.#slab = undefined;
      this.#next = 0;
      this.#first = 0;
    } else if (this.#first >= COMPACT_AT) {
      this.#chunks.splice(0, this.#first);
      this.#next -= this.#first;
      this.#first = 0;
    }
  }

  /** Go on from `offset`. False, and nothing changes, when it lies outside of what was sent and is kept. */
  rewind(offset: number): boolean {
    if (offset < this.#base || offset > this.#sent) return false;
    let index = this.#first;
    let start = this.#base;
    for (let chunk = this.#chunks[index]; chunk !== undefined && start + chunk.length <= offset; chunk = this.#chunks[index]) {
      start += chunk.length;
      index += 1;
    }
    this.#next = index;
    this.#nextStart = start;
    this.#sent = offset;
    return true;
  }

  #append(chunk: Uint8Array): void {
    const last = this.#chunks.at(-1);
    const used = last === undefined ? 0 : last.byteOffset + last.length;
    if (this.#slab === undefined || last === undefined || used + chunk.length > SLAB_BYTES) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slab.set(chunk);
      this.#chunks.push(this.#slab.subarray(0, chunk.length));
      return;
    }
    this.#slab.set(chunk, used);
    const index = this.#chunks.length - 1;
    if (this.#next > index) {
      this.#next = index;
      this.#nextStart = this.#end - last.length;
    }
    this.#chunks[index] = this.#slab.subarray(last.byteOffset, used + chunk.length);
  }
}
