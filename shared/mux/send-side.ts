/**
 * What goes out on a stream: bytes that wait, credit, and how far the other end has them.
 *
 * An end keeps what it has sent until it is acked, so that it can send it again (ReplayQueue). That is memory which the other end's credit
 * commands: beyond a first allowance it is reserved in the pool, and where there is none left the stream waits for acks. A relay keeps nothing: what it was to send
 * again comes from the end behind it. And it sends the frames that it got: their headers are written anew where they stand, so that a
 * message for one stream goes on as it came, without a copy.
 */
import { FairleadError } from '../errors.ts';
import { ByteQueue } from './byte-queue.ts';
import { FLAG, FRAME, type Frame, rewriteHeader, violation, writeHeader } from './frame.ts';
import { SCRAP_BYTES, WIRE } from './limits.ts';
import { type Credit, writeFin } from './payload.ts';
import type { MemoryPool } from './pool.ts';
import { ReplayQueue } from './replay-queue.ts';
import type { ResumeEntry } from './resume-entry.ts';

/** Bytes that each stream may have sent and not acked without asking the pool. */
const FREE_ALLOWANCE_BYTES = 64 * 1024;
/** No stream keeps more; as great as the windows that this side gives. */
const MAX_ALLOWANCE_BYTES = 1024 * 1024;

export class SendSide {
  readonly #id: number;
  readonly #pool: MemoryPool;
  #keeps = true;
  #allowanceBytes = FREE_ALLOWANCE_BYTES;
  /** Made when there is something to keep, and gone when the other end has it all: most streams of a fleet are idle. */
  #queue: ByteQueue | ReplayQueue | undefined;
  #limit: number;
  #sentBytes = 0;
  #ackedBytes = 0;
  /** Offset at which a relayed frame said that its sender was out of credit. */
  #exhaustedAt = -1;
  #finQueued = false;
  #finSent = false;
  #ended = false;

  constructor(id: number, limit: number, pool: MemoryPool) {
    this.#id = id;
    this.#limit = limit;
    this.#pool = pool;
  }

  get limit(): number {
    return this.#limit;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  get queuedBytes(): number {
    return this.#queue?.length ?? 0;
  }

  /** Bytes of which the other end has not said that they are consumed, on their way or not. */
  get unackedBytes(): number {
    return this.#ended ? 0 : this.#sentBytes - this.#ackedBytes + this.queuedBytes;
  }

  /** The other end has said that it has consumed all. */
  get ended(): boolean {
    return this.#ended;
  }

  get finQueued(): boolean {
    return this.#finQueued;
  }

  get hasWork(): boolean {
    if (this.#finSent) return false;
    return this.queuedBytes > 0 ? this.#room > 0 : this.#finQueued;
  }

  /** For relays, before the first byte. */
  keepNothing(): void {
    this.#keeps = false;
  }

  begin(limit: number): void {
    this.#limit = limit;
  }

  push(payload: Uint8Array, exhausted: boolean): void {
    if (this.#finQueued) throw new FairleadError('INTERNAL', `stream ${this.#id}: data was sent after the end of the stream`);
    this.#queue ??= this.#keeps ? new ReplayQueue(this.#sentBytes) : new ByteQueue();
    this.#queue.push(payload);
    if (exhausted) this.#exhaustedAt = this.#sentBytes + this.#queue.length;
  }

  fin(): void {
    this.#finQueued = true;
  }

  /** Data of the next frame, where it is not to be cut: that of a relay. */
  get uncutBytes(): number {
    return this.#queue instanceof ByteQueue ? Math.min(this.#queue.headBytes, this.#room) : 0;
  }

  /**
   * Put the next frame's parts into `parts`: `atMost` so much data, and what is `fitting` rather than that. Returns the bytes of data; 0 for
   * the FIN.
   */
  pull(parts: Uint8Array[], atMost: number, fitting: number): number {
    if (this.#room <= Math.min(atMost, this.queuedBytes)) this.#widen();
    const max = Math.min(atMost, this.#room);
    if (this.#queue instanceof ReplayQueue && this.#queue.length > 0) return this.#pullOwn(this.#queue, parts, max, fitting);
    if (this.#queue instanceof ByteQueue) return this.#pullRelayed(this.#queue, parts, max);
    parts.push(writeFin(this.#id, this.#sentBytes));
    this.#finSent = true;
    return 0;
  }

  #pullOwn(queue: ReplayQueue, parts: Uint8Array[], max: number, fitting: number): number {
    const isRest = queue.length <= Math.min(max, fitting + SCRAP_BYTES);
    const bytes = Math.min(queue.length, max, isRest ? max : Math.max(fitting, SCRAP_BYTES));
    parts.push(writeHeader(FRAME.DATA, this.#advance(bytes), bytes, this.#id));
    for (let left = bytes; left > 0; ) {
      const chunk = queue.shift(left);
      if (chunk === undefined) throw new FairleadError('INTERNAL', `stream ${this.#id}: less waits than its queue says`);
      parts.push(chunk);
      left -= chunk.length;
    }
    return bytes;
  }

  #pullRelayed(queue: ByteQueue, parts: Uint8Array[], max: number): number {
    const hasHeader = queue.isWhole(max);
    const chunk = queue.shift(max);
    if (chunk === undefined) throw new FairleadError('INTERNAL', `stream ${this.#id}: an empty queue was kept`);
    if (queue.length === 0) this.#queue = undefined;
    const flags = this.#advance(chunk.length);
    if (hasHeader) join(parts, rewriteHeader(chunk, FRAME.DATA, flags, this.#id));
    else parts.push(writeHeader(FRAME.DATA, flags, chunk.length, this.#id), chunk);
    return chunk.length;
  }

  /** Returns the flags of the frame. */
  #advance(bytes: number): number {
    this.#sentBytes += bytes;
    const exhausted = this.#room === 0 || this.#sentBytes === this.#exhaustedAt;
    return exhausted ? FLAG.EXHAUSTED : 0;
  }

  onWindow({ limit, acked, end }: Credit, frame: Frame): void {
    const wrong = (text: string) => violation('WINDOW', frame.offset, text);
    if (limit < this.#limit || acked < this.#ackedBytes) {
      throw wrong(`takes credit of stream ${this.#id} back: ${this.#limit} to ${limit}`);
    }
    if (acked > this.#sentBytes) {
      throw wrong(`acknowledges offset ${acked} of stream ${this.#id}, of which ${this.#sentBytes} was sent`);
    }
    if (limit - acked > WIRE.maxWindowBytes) throw wrong(excess(limit - acked));
    if (this.#ended && !end) throw wrong(`takes the END of stream ${this.#id} back`);
    if (end && !this.#finSent) throw wrong(`says that the FIN of stream ${this.#id} has come, which was not sent`);
    this.#take(limit, acked, end);
  }

  /** Go on from where the other end says. False when it asks for bytes that are not kept, or says what cannot be. */
  rewind({ received, limit, acked, end }: ResumeEntry): boolean {
    if (this.#keeps) {
      const isPossible = limit >= this.#limit && acked >= this.#ackedBytes && (end ? this.#isAll(received) : !this.#ended);
      if (!isPossible || !this.#rewindQueue(received)) return false;
    } else {
      this.#finQueued = end;
    }
    this.#finSent = end;
    this.#sentBytes = received;
    this.#take(limit, acked, end);
    return true;
  }

  /** For relays: what waits is void, it comes again from behind. */
  drop(): void {
    this.#queue = undefined;
    this.#finQueued = false;
    this.#exhaustedAt = -1;
  }

  clear(): void {
    this.#queue = undefined;
    this.#narrow();
  }

  /** Bytes that may go out now. */
  get #room(): number {
    const limit = this.#keeps ? Math.min(this.#limit, this.#ackedBytes + this.#allowanceBytes) : this.#limit;
    return limit - this.#sentBytes;
  }

  #widen(): void {
    if (!this.#keeps || this.#allowanceBytes >= MAX_ALLOWANCE_BYTES || this.#limit <= this.#ackedBytes + this.#allowanceBytes)
      return;
    // The other end's window is what says how much is worth it.
    if (this.#pool.reserveMore(this.#allowanceBytes, true)) this.#allowanceBytes *= 2;
  }

  #narrow(): void {
    this.#pool.release(this.#allowanceBytes - FREE_ALLOWANCE_BYTES);
    this.#allowanceBytes = FREE_ALLOWANCE_BYTES;
  }

  #isAll(received: number): boolean {
    return this.#finQueued && received === this.#sentBytes && this.queuedBytes === 0;
  }

  #rewindQueue(received: number): boolean {
    if (this.#queue instanceof ReplayQueue) return this.#queue.rewind(received);
    return received === this.#sentBytes;
  }

  #take(limit: number, acked: number, end: boolean): void {
    this.#limit = limit;
    this.#ackedBytes = acked;
    this.#ended = end;
    if (this.#queue instanceof ReplayQueue) {
      this.#queue.ack(end ? this.#sentBytes : acked);
      if (this.#queue.isEmpty) this.#queue = undefined;
    }
    if (acked === this.#sentBytes) this.#narrow();
  }
}

/** Parts that lie one behind the other are one. */
function join(parts: Uint8Array[], part: Uint8Array): void {
  const last = parts.at(-1);
  if (last?.buffer === part.buffer && last.byteOffset + last.length === part.byteOffset) {
    parts[parts.length - 1] = new Uint8Array(last.buffer, last.byteOffset, last.length + part.length);
  } else {
    parts.push(part);
  }
}

/** The reason to give for a window of more than the format allows. */
export function excess(bytes: number): string {
  return `opens a window of ${bytes} bytes, where ${WIRE.maxWindowBytes} are allowed`;
}
