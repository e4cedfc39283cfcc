/**
 * One end of a stream, with buffers and back pressure: what programs use. Pure; `channelDuplex` makes a Node stream of it.
 *
 * Receiving: chunks wait until `read` takes them, which gives credit back; who passes them on takes them by `take`, and says by `consumed` when
 * they are gone. Sending: `write` never refuses, but returns false when the
 * user should wait for `onDrain`. Each direction ends by itself: `end()` here, `ended` there. The receive window's memory is reserved
 * as long as the channel lives, so that a peer that sends all it may finds room.
 *
 * `onClose` is called exactly once: when both directions have ended in order, and each end has consumed all of the other's; or with
 * the error that ended both. What was received before the other side's end can still be read after it, whatever ends the stream then; what
 * was received before a reset without that cannot.
 * A line that breaks meanwhile is not noticed, as long as the session's streams are held for the next one.
 *
 * Upper half: what users call. Bottom half: `on…`, called by the stream, whose handler the channel itself is: a host may have thousands that
 * are idle, and each closure counts a thousand times.
 */
import { FairleadError, type JsonObject } from '../errors.ts';
import { ByteQueue } from './byte-queue.ts';
import type { StreamKey } from './numbers.ts';
import { type Grant, ReceiveWindow } from './receive-window.ts';
import { RESET_CODES, resetError } from './reset-codes.ts';
import type { MuxSession } from './session.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

/** Bytes waiting to go out from which on `write` returns false; `onDrain` comes at half of it. */
const HIGH_WATER_BYTES = 128 * 1024;

/** Set by the one user of the channel. Called from within the session's bottom half: must not throw. */
export interface ChannelEvents {
  /** `read()` has something, or the end came. */
  onReadable(): void;
  /** `write` may go on after it returned false. */
  onDrain(): void;
  /** After `end`: the other end has consumed all that was written, and knows that it was all. */
  onDelivered?(): void;
  /** Over: `error` is undefined when both directions ended in order. */
  onClose(error: FairleadError | undefined): void;
}

/** Of a stream about which its OPEN said nothing here. */
const NO_META: JsonObject = Object.freeze({});

export class MuxChannel implements StreamHandler {
  readonly id: number;
  /** What both ends know the stream by. */
  readonly key: StreamKey;
  /** Meta of OPEN on the acceptor's side, of OPEN_OK on the opener's. */
  readonly meta: JsonObject;

  readonly #stream: RawStream;
  readonly #window: ReceiveWindow;
  /** Made when something waits to be read, and gone with it. */
  #received: ByteQueue | undefined;
  #events: ChannelEvents | undefined;
  #mustDrain = false;
  #remoteEnded = false;
  #localEnded = false;
  /** The other end has consumed all that was written. */
  #isDelivered = false;
  /** To be reset with, once it is delivered. */
  #lastWord: { readonly code: number; readonly reason: string } | undefined;
  /** Set when the channel is over: the outcome, kept for a user that comes late. */
  #outcome: { error: FairleadError | undefined } | undefined;

  /**
   * Resolves when the other side accepts. Rejects with its refusal, with LIMIT_EXCEEDED when no memory is left for a window, with what
   * `MuxSession.open` throws, or with the signal's reason; then nothing is left behind.
   */
  static open(session: MuxSession, meta: JsonObject, options: { signal?: AbortSignal } = {}): Promise<MuxChannel> {
    const { promise, resolve, reject } = Promise.withResolvers<MuxChannel>();
    const { signal } = options;
    try {
      signal?.throwIfAborted();
      const window = reserveWindow(session);
      const release = (error: unknown): void => {
        window.release();
        signal?.removeEventListener('abort', onAbort);
        reject(error);
      };
      let stream: RawStream | undefined;
      const onAbort = (): void => {
        stream?.reset(RESET_CODES.CANCELLED, 'the opener gave up');
        release(signal?.reason);
      };
      try {
        stream = session.open(
          meta,
          {
            onOpened: (answer) => {
              signal?.removeEventListener('abort', onAbort);
              // SAFETY: `open` has returned by the time an answer can come.
              resolve(new MuxChannel(stream!, window, answer));
            },
            onRefused: release,
            onReset: (code, reason) => release(resetError(code, reason)),
            onData: () => {},
            onFin: () => {},
          },
          window.windowBytes,
        );
        signal?.addEventListener('abort', onAbort, { once: true });
      } catch (error) {
        release(error);
      }
    } catch (error) {
      reject(error);
    }
    return promise;
  }

  /** Take a stream from `onOpen`. When no memory is left for its window, the stream is refused and LIMIT_EXCEEDED thrown. */
  static accept(session: MuxSession, stream: RawStream, answer: JsonObject, meta: JsonObject = NO_META): MuxChannel {
    let window: ReceiveWindow;
    try {
      window = reserveWindow(session);
    } catch (error) {
      // SAFETY: reserveWindow throws nothing else.
      stream.refuse(error as FairleadError);
      throw error;
    }
    const channel = new MuxChannel(stream, window, meta);
    try {
      stream.accept(answer, window.windowBytes);
    } catch (error) {
      window.release();
      throw error;
    }
    return channel;
  }

  private constructor(stream: RawStream, window: ReceiveWindow, meta: JsonObject) {
    this.id = stream.id;
    this.key = stream.key;
    this.meta = meta;
    this.#stream = stream;
    this.#window = window;
    stream.attach(this);
  }

  /** Who is told; set it right after `open` resolved or `accept` returned. */
  attach(events: ChannelEvents): void {
    this.#events = events;
    if (this.#received !== undefined || this.#remoteEnded) events.onReadable();
    if (this.#isDelivered) events.onDelivered?.();
    if (this.#outcome !== undefined) events.onClose(this.#outcome.error);
  }

  /** Bytes that wait to be read. */
  get readableBytes(): number {
    return this.#received?.length ?? 0;
  }

  /** Bytes that wait to go out. */
  get writableBytes(): number {
    return this.#stream.queuedBytes;
  }

  /** Bytes that were written and are not consumed by the other end, as far as it has said so: it does after some at a time, and after `end`. */
  get unackedBytes(): number {
    return this.#stream.unackedBytes;
  }

  /** The other side's end was reached and all was read. */
  get ended(): boolean {
    return this.#remoteEnded && this.#received === undefined;
  }

  /** The other side's end has come; what came before it may still wait to be read. */
  get endReceived(): boolean {
    return this.#remoteEnded;
  }

  /** Credit open to the other side at most, in bytes. */
  get windowBytes(): number {
    return this.#window.windowBytes;
  }

  /** The next chunk, which gives its credit back; undefined when there is none now. The chunk is the caller's. */
  read(): Uint8Array | undefined {
    const chunk = this.take();
    if (chunk !== undefined) this.consumed(chunk.length);
    return chunk;
  }

  /** As `read`, but its credit stays with the caller until `consumed`: the other side sends no more than fits the window meanwhile. */
  take(): Uint8Array | undefined {
    if (this.#received === undefined) return undefined;
    const chunk = this.#received.shift(Number.POSITIVE_INFINITY);
    if (this.#received.length === 0) this.#drop();
    return chunk;
  }

  /** So many of the bytes that were taken are in nobody's memory here any more. */
  consumed(bytes: number): void {
    if (this.#outcome !== undefined) return;
    this.#grant(this.#window.consumed(bytes));
    this.#closeWhenDone();
  }

  /** False: wait for `onDrain`. The bytes must not be touched afterwards. Does nothing on a channel that is over. */
  write(bytes: Uint8Array): boolean {
    if (this.#outcome !== undefined) return true;
    this.#stream.send(bytes);
    this.#mustDrain = this.#stream.queuedBytes >= HIGH_WATER_BYTES;
    return !this.#mustDrain;
  }

  /** Half-close: the other side reads the end after what was written. */
  end(): void {
    if (this.#localEnded || this.#outcome !== undefined) return;
    this.#localEnded = true;
    this.#stream.fin();
  }

  /** End both directions now; `onClose` is called with the matching error. On a channel that is over: nobody reads what still waits. */
  reset(code: number, reason: string): void {
    if (this.#outcome !== undefined) return this.#drop();
    this.#stream.reset(code, reason);
    this.#received = undefined;
    this.#close(resetError(code, reason));
  }

  /** After `end`: as `reset`, once the other end has consumed all that was written. Nothing is read any more. */
  resetDelivered(code: number, reason: string): void {
    if (this.#isDelivered || this.#outcome !== undefined) this.reset(code, reason);
    else this.#lastWord = { code, reason };
  }

  onData(payload: Uint8Array, exhausted: boolean): void {
    this.#window.received(payload.length, exhausted);
    const isFirst = this.#received === undefined;
    this.#received ??= new ByteQueue();
    this.#received.push(payload);
    if (isFirst) this.#events?.onReadable();
  }

  onFin(): void {
    this.#remoteEnded = true;
    this.#grant(this.#window.ended());
    this.#events?.onReadable();
    this.#closeWhenDone();
  }

  onEnded(): void {
    this.#isDelivered = true;
    if (this.#lastWord !== undefined) return this.reset(this.#lastWord.code, this.#lastWord.reason);
    this.#events?.onDelivered?.();
    this.#closeWhenDone();
  }

  onReset(code: number, reason: string): void {
    this.#close(resetError(code, reason));
  }

  onRerouted(): void {
    this.#window.rerouted();
  }

  onSent(): void {
    if (this.#mustDrain && this.#stream.queuedBytes <= HIGH_WATER_BYTES / 2) {
      this.#mustDrain = false;
      this.#events?.onDrain();
    }
  }

  /** Nothing waits to be read any more. */
  #drop(): void {
    this.#received = undefined;
    if (this.#outcome !== undefined) this.#window.release();
  }

  #grant(grant: Grant | undefined): void {
    if (grant !== undefined) this.#stream.grant(grant.limit, grant.acked);
  }

  #closeWhenDone(): void {
    if (this.#remoteEnded && this.#isDelivered && this.#window.isEmpty) this.#close(undefined);
  }

  #close(error: FairleadError | undefined): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = { error };
    const isRead = this.#lastWord === undefined && this.#remoteEnded;
    if (this.#received === undefined || !isRead) this.#drop();
    this.#events?.onClose(error);
  }
}

/** Less than a new stream gets otherwise, where little memory is left. */
function reserveWindow({ limits, pool, now }: MuxSession): ReceiveWindow {
  const initialBytes = pool.reserveFirst(limits.initialWindowBytes);
  if (initialBytes === 0) {
    const { usedBytes, limitBytes } = pool;
    throw new FairleadError(
      'LIMIT_EXCEEDED',
      `no memory is left for another stream: ${usedBytes} of ${limitBytes} bytes are promised`,
    );
  }
  return new ReceiveWindow({ pool, initialBytes, maxBytes: limits.maxStreamWindowBytes, now });
}
