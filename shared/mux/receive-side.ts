/** What comes in on a stream: credit that was given, and how much of it came. It holds no byte. */
import { FairleadError } from '../errors.ts';
import { type Frame, violation } from './frame.ts';
import { readU64 } from './numbers.ts';
import type { ResumeEntry } from './resume-entry.ts';

export class ReceiveSide {
  readonly #id: number;
  #limit: number;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #finReceived = false;

  constructor(id: number, limit: number) {
    this.#id = id;
    this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get consumedBytes(): number {
    return this.#consumedBytes;
  }

  get finReceived(): boolean {
    return this.#finReceived;
  }

  /** The FIN has come, and all before it is consumed. */
  get ended(): boolean {
    return this.#finReceived && this.#consumedBytes === this.#receivedBytes;
  }

  begin(limit: number): void {
    this.#limit = limit;
  }

  /** False when it says nothing new. */
  grant(limit: number, acked: number): boolean {
    if (limit <= this.#limit && acked <= this.#consumedBytes) return false;
    this.#limit = Math.max(limit, this.#limit);
    this.#consumedBytes = Math.max(acked, this.#consumedBytes);
    return true;
  }

  onData({ payload }: Frame): void {
    this.#receivedBytes += payload.length;
    if (this.#receivedBytes <= this.#limit) return;
    throw new FairleadError(
      'FLOW_CONTROL',
      `the peer sent stream ${this.#id} up to offset ${this.#receivedBytes}, beyond its credit of ${this.#limit}`,
      { details: { stream: this.#id, offset: this.#receivedBytes, limit: this.#limit } },
    );
  }

  onFin(frame: Frame): void {
    const finalOffset = readU64(frame, 0);
    if (finalOffset !== this.#receivedBytes) {
      throw violation('FIN', frame.offset, `ends stream ${this.#id} at ${finalOffset}, but ${this.#receivedBytes} bytes came`);
    }
    this.#finReceived = true;
  }

  /** What was said of this side in RESUME holds from here on. */
  rebase({ received, acked, limit, end }: ResumeEntry): void {
    this.#receivedBytes = received;
    this.#consumedBytes = acked;
    this.#limit = limit;
    this.#finReceived = end;
  }
}
