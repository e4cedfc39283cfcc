/**
 * Cuts what a guest agent sends into replies: one JSON value a line (qemu-ga protocol), and the byte 0xFF, which JSON cannot hold and
 * which the agent puts before the answer of `guest-sync-delimited`.
 *
 * A guest may send what it likes, so no more of it is kept than was agreed: of a string that is longer than `maxStringBytes` only the
 * beginning is kept, and how much is missing is told under the name of its member. The output of a command of many MiB goes through
 * here without ever being in memory. A reply that is too long even so is told as `overlong`, and the rest of its line is dropped.
 */

export interface Cut {
  /** Bytes of the string that were dropped. */
  readonly droppedBytes: number;
  /** Its last two bytes: base64 has its padding there. */
  readonly end: string;
}

export type ReplyPart =
  | { readonly kind: 'sentinel' }
  | { readonly kind: 'overlong' }
  | { readonly kind: 'reply'; readonly text: string; readonly cuts: ReadonlyMap<string, Cut> };

export interface ReplyLimits {
  readonly maxStringBytes: number;
  /** Of what is kept of one line. */
  readonly maxReplyBytes: number;
}

/** Begins a `guest-sync-delimited`, either way. */
export const SENTINEL = 0xff;
const NEWLINE = 0x0a;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export class ReplyReader {
  readonly #limits: ReplyLimits;
  #kept: Buffer;
  #length = 0;
  #isOverlong = false;
  #inString = false;
  #isEscaped = false;
  /** Where the current string begins in what is kept, and how long it is on the wire. */
  #stringStart = 0;
  #stringBytes = 0;
  #lastTwo = [0, 0];
  /** The string that ended last: the name of a member, when the next one is its value. */
  #previous = '';
  #cuts = new Map<string, Cut>();

  constructor(limits: ReplyLimits) {
    this.#limits = limits;
    this.#kept = Buffer.alloc(Math.min(4096, limits.maxReplyBytes));
  }

  push(chunk: Uint8Array): ReplyPart[] {
    const parts: ReplyPart[] = [];
    for (const byte of chunk) {
      const part = this.#take(byte);
      if (part !== undefined) parts.push(part);
    }
    return parts;
  }

  #take(byte: number): ReplyPart | undefined {
    if (byte === SENTINEL) {
      this.#begin();
      return { kind: 'sentinel' };
    }
    // No string of JSON holds a raw line break, so one ends the line whatever came before.
    if (byte === NEWLINE) return this.#endLine();
    if (!this.#inString) {
      if (byte === QUOTE) this.#beginString();
      this.#keep(byte);
    } else if (byte === QUOTE && !this.#isEscaped) {
      this.#endString();
      this.#keep(byte);
    } else {
      this.#isEscaped = byte === BACKSLASH && !this.#isEscaped;
      this.#stringBytes += 1;
      this.#lastTwo = [this.#lastTwo[1] ?? 0, byte];
      if (this.#stringBytes <= this.#limits.maxStringBytes) this.#keep(byte);
    }
    return undefined;
  }

  #keep(byte: number): void {
    if (this.#length === this.#kept.length) {
      if (this.#length >= this.#limits.maxReplyBytes) {
        this.#isOverlong = true;
        return;
      }
      const larger = Buffer.alloc(Math.min(2 * this.#length, this.#limits.maxReplyBytes));
      this.#kept.copy(larger);
      this.#kept = larger;
    }
    this.#kept[this.#length++] = byte;
  }

  #beginString(): void {
    this.#inString = true;
    this.#stringStart = this.#length + 1;
    this.#stringBytes = 0;
  }

  #endString(): void {
    const droppedBytes = this.#stringBytes - this.#limits.maxStringBytes;
    this.#inString = false;
    if (droppedBytes <= 0) this.#previous = this.#kept.toString('utf8', this.#stringStart, this.#length);
    // An escape at the very end of what is kept would swallow the closing quote.
    else {
      while (this.#length > this.#stringStart && this.#kept[this.#length - 1] === BACKSLASH) this.#length -= 1;
      this.#cuts.set(this.#previous, { droppedBytes, end: String.fromCharCode(...this.#lastTwo) });
    }
  }

  #endLine(): ReplyPart | undefined {
    const text = this.#kept.toString('utf8', 0, this.#length).trim();
    const cuts = this.#cuts;
    const isOverlong = this.#isOverlong;
    this.#begin();
    if (isOverlong) return { kind: 'overlong' };
    return text === '' ? undefined : { kind: 'reply', text, cuts };
  }

  #begin(): void {
    this.#length = 0;
    this.#isOverlong = false;
    this.#inString = false;
    this.#isEscaped = false;
    this.#previous = '';
    this.#cuts = new Map();
  }
}
