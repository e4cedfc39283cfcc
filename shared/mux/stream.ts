/**
 * A raw stream: its state, offsets and send queue. It holds no received byte; what arrives goes straight to the handler.
 *
 *   opener    opening ──OPEN_OK──▶ open ──┐            within `open` each direction ends by itself:
 *                │ OPEN_ERR               │              ours:   fin() ─▶ queue empties ─▶ FIN sent
 *                ▼                        │ both FIN     theirs: FIN received
 *             closed ◀──RESET either way──┤
 *                ▲ refuse()               │            RESET in any state, and the end of the session, lead to
 *                │                        ▼            `closed` at once; what was queued is dropped.
 *   acceptor  offered ──accept()──▶ open ─┘
 *
 * The opener sends nothing between OPEN and OPEN_OK, which has its first credit. Upper half: the methods of RawStream, which throw on
 * misuse and do nothing on a closed stream. Bottom half: `on…` and `pull`, called by the session, which closes itself with whatever
 * they throw.
 */
import { FairleadError, type JsonObject } from '../errors.ts';
import { ByteQueue } from './byte-queue.ts';
import { FLAG, FRAME, type Frame, frameName, violation, writeHeader } from './frame.ts';
import { WIRE } from './limits.ts';
import { type Credit, type Opening, readU64, writeFin, writeOpening, writeRefusal, writeReset } from './payload.ts';
import type { Schedulable } from './scheduler.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

/** What a stream needs of its session. */
export interface StreamHost {
  queueControl(frame: Uint8Array): void;
  queueWindow(stream: MuxStream): void;
  activate(stream: MuxStream): void;
  /** Closed: forget it. */
  remove(stream: MuxStream): void;
}

export type StreamState = 'opening' | 'offered' | 'open' | 'closed';

export class MuxStream implements RawStream, Schedulable<MuxStream> {
  readonly id: number;
  readonly schedule: Schedulable<MuxStream>['schedule'] = { listed: false, deficitBytes: 0, next: undefined };
  /** Whether a WINDOW waits to be sent. */
  windowQueued = false;

  readonly #host: StreamHost;
  #state: StreamState;
  #handler: StreamHandler | undefined;

  #queue: ByteQueue | undefined;
  #sendLimit = 0;
  #sentBytes = 0;
  #ackedBytes = 0;
  #finQueued = false;
  #finSent = false;
  /** Offset at which a relayed frame said that its sender was out of credit. */
  #exhaustedAt = -1;

  #receiveLimit: number;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #finReceived = false;

  constructor(host: StreamHost, id: number, state: 'opening' | 'offered', credit: { send: number; receive: number }) {
    this.#host = host;
    this.id = id;
    this.#state = state;
    this.#sendLimit = credit.send;
    this.#receiveLimit = credit.receive;
  }

  get state(): StreamState {
    return this.#state;
  }

  get sendLimit(): number {
    return this.#sendLimit;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  get queuedBytes(): number {
    return this.#queue?.length ?? 0;
  }

  /** Credit that the next WINDOW states. */
  get credit(): Credit {
    return { limit: this.#receiveLimit, acked: this.#consumedBytes };
  }

  /** Whether the other side can still use credit. */
  get receiving(): boolean {
    return this.#state === 'open' && !this.#finReceived;
  }

  get sendable(): boolean {
    if (this.#state !== 'open' || this.#finSent) return false;
    return this.queuedBytes > 0 ? this.#sendLimit > this.#sentBytes : this.#finQueued;
  }

  attach(handler: StreamHandler): void {
    this.#handler = handler;
  }

  accept(meta: JsonObject, creditBytes: number): void {
    if (this.#state === 'closed') return;
    this.#require('offered', 'accepted');
    const frame = writeOpening(FRAME.OPEN_OK, this.id, { creditBytes, meta });
    this.#receiveLimit = creditBytes;
    this.#state = 'open';
    this.#host.queueControl(frame);
    this.#activate();
  }

  refuse(error: FairleadError): void {
    if (this.#state === 'closed') return;
    this.#require('offered', 'refused');
    this.#host.queueControl(writeRefusal(this.id, error));
    this.#close();
  }

  send(payload: Uint8Array, exhausted = false): void {
    if (this.#state === 'closed') return;
    if (this.#finQueued) throw new FairleadError('INTERNAL', `stream ${this.id}: data was sent after the end of the stream`);
    this.#queue ??= new ByteQueue();
    this.#queue.push(payload);
    if (exhausted) this.#exhaustedAt = this.#sentBytes + this.#queue.length;
    this.#activate();
  }

  grant(limit: number, acked: number): void {
    if (!this.receiving) return;
    if (limit <= this.#receiveLimit && acked <= this.#consumedBytes) return;
    this.#receiveLimit = Math.max(limit, this.#receiveLimit);
    this.#consumedBytes = Math.max(acked, this.#consumedBytes);
    this.#host.queueWindow(this);
  }

  fin(): void {
    if (this.#state === 'closed' || this.#finQueued) return;
    this.#finQueued = true;
    this.#activate();
  }

  reset(code: number, reason: string): void {
    if (this.#state === 'closed') return;
    this.#host.queueControl(writeReset(this.id, code, reason));
    this.#close();
  }

  onOpened(opening: Opening, frame: Frame): void {
    if (this.#state !== 'opening') throw violation('OPEN_OK', frame.offset, `is for stream ${this.id}, which is ${this.#state}`);
    if (opening.creditBytes > WIRE.maxWindowBytes) throw violation('OPEN_OK', frame.offset, excess(opening.creditBytes));
    this.#state = 'open';
    this.#sendLimit = opening.creditBytes;
    this.#activate();
    this.#handler?.onOpened?.(opening.meta);
  }

  onRefused(error: FairleadError, frame: Frame): void {
    if (this.#state !== 'opening') throw violation('OPEN_ERR', frame.offset, `is for stream ${this.id}, which is ${this.#state}`);
    this.#close();
    this.#handler?.onRefused?.(error);
  }

  onData(frame: Frame): void {
    this.#requireReceiving(frame);
    this.#receivedBytes += frame.payload.length;
    if (this.#receivedBytes > this.#receiveLimit) {
      throw new FairleadError(
        'FLOW_CONTROL',
        `the peer sent stream ${this.id} up to offset ${this.#receivedBytes}, beyond its credit of ${this.#receiveLimit}`,
        { details: { stream: this.id, offset: this.#receivedBytes, limit: this.#receiveLimit } },
      );
    }
    this.#handler?.onData(frame.payload, (frame.flags & FLAG.EXHAUSTED) !== 0);
  }

  onWindow({ limit, acked }: Credit, frame: Frame): void {
    if (this.#state !== 'open') throw violation('WINDOW', frame.offset, `is for stream ${this.id}, which is ${this.#state}`);
    if (limit < this.#sendLimit || acked < this.#ackedBytes) {
      throw violation('WINDOW', frame.offset, `takes credit of stream ${this.id} back: ${this.#sendLimit} to ${limit}`);
    }
    if (acked > this.#sentBytes) {
      throw violation(
        'WINDOW',
        frame.offset,
        `acknowledges offset ${acked} of stream ${this.id}, of which ${this.#sentBytes} was sent`,
      );
    }
    if (limit - acked > WIRE.maxWindowBytes) throw violation('WINDOW', frame.offset, excess(limit - acked));
    this.#sendLimit = limit;
    this.#ackedBytes = acked;
    this.#activate();
    this.#handler?.onCredit?.(limit, acked);
  }

  onFin(frame: Frame): void {
    this.#requireReceiving(frame);
    const finalOffset = readU64(frame, 0);
    if (finalOffset !== this.#receivedBytes) {
      throw violation('FIN', frame.offset, `ends stream ${this.id} at ${finalOffset}, but ${this.#receivedBytes} bytes came`);
    }
    this.#finReceived = true;
    if (this.#finSent) this.#close();
    this.#handler?.onFin();
  }

  /** The other side's RESET, or the end of the session. */
  onReset(code: number, reason: string): void {
    if (this.#state === 'closed') return;
    this.#close();
    this.#handler?.onReset(code, reason);
  }

  /** Put the next frame's parts, at most `maxPayload` of data, into `parts`. Returns its bytes on the line. */
  pull(parts: Uint8Array[], maxPayload: number): number {
    const chunk = this.#queue?.shift(Math.min(maxPayload, this.#sendLimit - this.#sentBytes));
    if (chunk === undefined) return this.#pullFin(parts);
    this.#sentBytes += chunk.length;
    const exhausted = this.#sentBytes === this.#sendLimit || this.#sentBytes === this.#exhaustedAt;
    parts.push(writeHeader(FRAME.DATA, exhausted ? FLAG.EXHAUSTED : 0, chunk.length, this.id), chunk);
    this.#handler?.onSent?.(chunk.length);
    return WIRE.headerBytes + chunk.length;
  }

  #pullFin(parts: Uint8Array[]): number {
    const frame = writeFin(this.id, this.#sentBytes);
    parts.push(frame);
    this.#finSent = true;
    if (this.#finReceived) this.#close();
    return frame.length;
  }

  #activate(): void {
    if (this.sendable) this.#host.activate(this);
  }

  #close(): void {
    this.#state = 'closed';
    this.#queue = undefined;
    this.#host.remove(this);
  }

  #require(state: StreamState, verb: string): void {
    if (this.#state === state) return;
    throw new FairleadError('INTERNAL', `stream ${this.id} cannot be ${verb}: it is ${this.#state}, not ${state}`);
  }

  #requireReceiving(frame: Frame): void {
    if (this.receiving) return;
    const state = this.#state === 'open' ? 'ended already by a FIN' : this.#state;
    throw violation(frameName(frame.type), frame.offset, `is for stream ${this.id}, which is ${state}`);
  }
}

/** The reason to give for a window of more than the format allows. */
export function excess(bytes: number): string {
  return `opens a window of ${bytes} bytes, where ${WIRE.maxWindowBytes} are allowed`;
}
