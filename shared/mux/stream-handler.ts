/**
 * The two sides of a raw stream: what its user implements, and what it may call.
 *
 * Offsets are absolute: bytes of this stream since it began, in one direction. `limit` is the offset up to which may be sent, `acked`
 * the offset below which the receiver will never ask for a byte again. Both only rise. Handlers must not throw: what they throw closes
 * the session. After `onRefused`, `onReset` or both ends' FIN, none is called again.
 */
import type { FairleadError, JsonObject } from '../errors.ts';
import type { StreamKey } from './numbers.ts';
import type { Credit } from './payload.ts';
import type { ResumeEntry } from './resume-entry.ts';

export interface StreamHandler {
  /** The other side accepted (opener only): `stream.sendLimit` is its first credit. */
  onOpened?(meta: JsonObject): void;
  /** The other side refused (opener only); the stream is over. */
  onRefused?(error: FairleadError): void;
  /** The payload belongs to the handler. `exhausted`: the sender had no credit left after it, as far as it knew then. */
  onData(payload: Uint8Array, exhausted: boolean): void;
  /** No more data comes; all of it has been handed over. */
  onFin(): void;
  /** The other end has consumed all that was sent, and knows that it was all. */
  onEnded?(): void;
  /** The stream is over, in both directions; what was queued is gone. Also called with SESSION_LOST when the session closes. */
  onReset(code: number, reason: string): void;
  /** Not of relays: the stream goes on on another line of this end or of the other. */
  onRerouted?(): void;
  /** `bytes` of what was sent left the queue for the line; after a line broke, some of them again. */
  onSent?(bytes: number): void;

  /** A relay: it is no end, so it keeps no byte, and credit, ends and resumption are passed on by it. Set from the beginning. */
  readonly relays?: true;
  /** Relays: to be passed on by `passOn` of the other stream. */
  onCredit?(credit: Credit): void;
  /** Relays: to be passed on by `resume` of the other stream. What waited here is void. */
  onResume?(entry: ResumeEntry): void;
  /** Relays: the line is gone, though its other end may come back; the stream is over. Without it, `onReset` is called instead. */
  onLost?(): void;
  /** Relays: over in order, nothing is missing to anyone. */
  onDone?(): void;
}

export interface RawStream {
  readonly id: number;
  /** What the stream is known by at its other end, and on any other line. */
  readonly key: StreamKey;
  /** Credit from the other side: offset up to which data may go out. */
  readonly sendLimit: number;
  /** Offset of the last byte that went out. */
  readonly sentBytes: number;
  /** Bytes that wait for credit or for the line. */
  readonly queuedBytes: number;
  /** Bytes that were sent or wait, and of which the other end has not said that they are consumed; it does so after some at a time. */
  readonly unackedBytes: number;
  /** Set who is told; a stream from `onOpen` must have one before its first event, that is at once. */
  attach(handler: StreamHandler): void;
  /** Take an offered stream, granting `creditBytes` at first. */
  accept(meta: JsonObject, creditBytes: number): void;
  /** Turn an offered stream down. */
  refuse(error: FairleadError): void;
  /**
   * Queue data; it goes out as credit and the scheduler allow. The payload is not touched afterwards. Relays give it as `onData` gave it to
   * them, with the header before it in its message, and `exhausted` with it.
   */
  send(payload: Uint8Array, exhausted?: boolean): void;
  /** Let the other side send up to offset `limit`; bytes below `acked` are consumed. */
  grant(limit: number, acked: number): void;
  /** End our direction after what is queued. */
  fin(): void;
  /** End both directions now. Safe in any state. */
  reset(code: number, reason: string): void;
  /** Relays: give the other end's credit, END and DONE. */
  passOn(credit: Credit): void;
  /** Relays: give the other end's entry; what waits is void, and nothing flows until this end has answered. False when it is no news. */
  resume(entry: ResumeEntry): boolean;
  /** Relays: leave without a word, since another line has this stream now. */
  abandon(): void;
}
