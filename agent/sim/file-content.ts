/** What a file of a simulated host holds, in memory, with room at its end: an append copies nothing that is there already. */
const FIRST_CAPACITY = 512;

export class FileContent {
  #room = Buffer.alloc(0);
  #length = 0;

  /** Good until the next change. */
  get bytes(): Buffer {
    return this.#room.subarray(0, this.#length);
  }

  /** What lies between its end and `at` is zeros from then on. */
  write(bytes: Uint8Array, at: number): void {
    const end = at + bytes.length;
    if (end > this.#room.length) this.#grow(end);
    if (at > this.#length) this.#room.fill(0, this.#length, at);
    this.#room.set(bytes, at);
    this.#length = Math.max(this.#length, end);
  }

  cut(at: number): void {
    this.#length = Math.min(this.#length, at);
  }

  #grow(bytes: number): void {
    const room = Buffer.alloc(Math.max(FIRST_CAPACITY, 2 ** Math.ceil(Math.log2(bytes))));
    room.set(this.bytes);
    this.#room = room;
  }
}
