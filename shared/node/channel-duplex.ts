/**
 * A MuxChannel as a Node stream: half-open, with back pressure both ways.
 *
 *   readable: chunks are taken from the channel only while the stream wants them, one ahead. That gives credit back, but where they are passed
 *     on (join-duplex.ts): there, once the next one has taken them over. So what a stalled reader leaves here is no more than its window
 *   writable: the callback of a write waits while too much is queued; end() is a half-close, and 'finish' says that the other end has consumed
 *     all: a program there, or the kernel of its guest
 *   destroy(error) resets the channel with a code made of the error; a reset destroys the stream with its error, but what came before the
 *     other side's end is read first: until then writes go nowhere, and nothing is finished. Where nobody reads, whoever has ended is told at once
 */
import { Duplex } from 'node:stream';
import { type FairleadError, isFairleadError } from '../errors.ts';
import type { MuxChannel } from '../mux/channel.ts';
import { RESET_CODES, type ResetName } from '../mux/reset-codes.ts';
import type { ErrorCode } from '../protocol/error-table.ts';

/** Bytes that wait to be read; one frame of the line. */
const READ_AHEAD_BYTES = 16 * 1024;
/** Bytes that wait to go out; one message of the line. */
const HIGH_WATER_BYTES = 64 * 1024;

export interface ChannelDuplexOptions {
  /** A destroy with an error after `end()` lets the other side have all that was written first. */
  readonly deliversEnd?: boolean;
  /** Whoever writes may use the memory again once a write was taken, as with a socket of Node: what is kept is a copy. */
  readonly copies?: boolean;
  /** After a reset: how long what came before the other side's end may still be read, in milliseconds; without it for as long as it takes. */
  readonly readsOnMs?: number;
}

export function channelDuplex(channel: MuxChannel, options: ChannelDuplexOptions = {}): Duplex {
  return new ChannelDuplex(channel, options);
}

/** Bytes written to a stream that the other end has not consumed, as far as is known here: of any but a channel's, that the stream has not handed on. */
export function unconsumedBytes(stream: Duplex): number {
  return stream.writableLength + (stream instanceof ChannelDuplex ? stream.unackedBytes : 0);
}

class ChannelDuplex extends Duplex {
  readonly #channel: MuxChannel;
  readonly #deliversEnd: boolean;
  readonly #copies: boolean;
  readonly #readsOnMs: number | undefined;
  #wanted = false;
  #passesOn = false;
  #endPushed = false;
  #endSent = false;
  #writeCallback: ((error?: Error | null) => void) | undefined;
  #finalCallback: (() => void) | undefined;
  /** Both ends were said, and what was taken is still being passed on: that may fail, or the other side may go. */
  #closeCallback: ((error: Error | null) => void) | undefined;
  #isOver = false;
  /** What the channel ended with, while what came before that is read. */
  #failure: FairleadError | undefined;

  constructor(channel: MuxChannel, { deliversEnd = false, copies = false, readsOnMs }: ChannelDuplexOptions) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD_BYTES, writableHighWaterMark: HIGH_WATER_BYTES });
    this.#channel = channel;
    this.#deliversEnd = deliversEnd;
    this.#copies = copies;
    this.#readsOnMs = readsOnMs;
    channel.attach({
      onReadable: () => this.#pushMore(),
      onDrain: () => this.#continueWriting(),
      onDelivered: () => this.#finalCallback?.(),
      onClose: (error) => {
        this.#isOver = true;
        if (this.#closeCallback !== undefined) this.#closeCallback(error ?? null);
        else if (error !== undefined) this.#fail(error);
      },
    });
  }

  /** Bytes that the channel has taken and the other end has not. */
  get unackedBytes(): number {
    return this.#channel.unackedBytes;
  }

  /** From here on whoever takes chunks says when they are gone. */
  passOn(): void {
    this.#passesOn = true;
  }

  consumed(bytes: number): void {
    this.#channel.consumed(bytes);
  }

  lost(error: Error): void {
    const code = RESET_CODES[resetNameOf(error)];
    if (this.#endSent && this.#deliversEnd) this.#channel.resetDelivered(code, error.message);
    else this.#channel.reset(code, error.message);
  }

  override _read(): void {
    this.#wanted = true;
    this.#pushMore();
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: (error?: Error | null) => void): void {
    if (this.#give(chunk)) callback();
    else this.#writeCallback = callback;
  }

  override _writev(chunks: { chunk: Uint8Array }[], callback: (error?: Error | null) => void): void {
    let goOn = true;
    for (const { chunk } of chunks) goOn = this.#give(chunk);
    if (goOn) callback();
    else this.#writeCallback = callback;
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#endSent = true;
    this.#finalCallback = callback;
    this.#channel.end();
    if (this.#failure !== undefined && this.#isUnread) this.destroy(this.#failure);
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    // With both ends said, what is still queued goes out by itself; a reset would lose it.
    if (error !== null || !this.#endSent || !this.#endPushed) {
      const code = RESET_CODES[resetNameOf(error)];
      if (error !== null && this.#endSent && this.#deliversEnd) this.#channel.resetDelivered(code, error.message);
      else this.#channel.reset(code, error?.message ?? 'closed before its end');
    } else if (this.#passesOn && !this.#isOver) {
      this.#closeCallback = callback;
      return;
    }
    this.#writeCallback = undefined;
    callback(error);
  }

  #give(chunk: Uint8Array): boolean {
    return this.#channel.write(this.#copies ? new Uint8Array(chunk) : chunk);
  }

  #fail(error: FairleadError): void {
    if (!this.#channel.endReceived || this.readableEnded) return void this.destroy(error);
    if (this.#finalCallback !== undefined && this.#isUnread) return void this.destroy(error);
    this.#failure = error;
    this.once('end', () => this.destroy(error));
    if (this.#readsOnMs !== undefined) {
      const timer = setTimeout(() => this.destroy(error), this.#readsOnMs);
      this.once('close', () => clearTimeout(timer));
    }
    this.#continueWriting();
    this.#pushMore();
  }

  /** Nobody has begun to read. */
  get #isUnread(): boolean {
    return this.readableFlowing === null;
  }

  #pushMore(): void {
    while (this.#wanted) {
      const chunk = this.#passesOn ? this.#channel.take() : this.#channel.read();
      if (chunk === undefined) break;
      this.#wanted = this.push(chunk);
    }
    if (this.#channel.ended && !this.#endPushed) {
      this.#endPushed = true;
      this.push(null);
    }
  }

  #continueWriting(): void {
    const callback = this.#writeCallback;
    this.#writeCallback = undefined;
    callback?.();
  }
}

const ERRNO_RESETS: Readonly<Record<string, ResetName>> = {
  ECONNRESET: 'RESET',
  EPIPE: 'RESET',
  ECONNABORTED: 'RESET',
  ETIMEDOUT: 'TIMEOUT',
  ENODEV: 'NO_DEVICE',
  ABORT_ERR: 'CANCELLED',
};

const RESETS_OF_ERRORS: Partial<Record<ErrorCode, ResetName>> = {
  CANCELLED: 'CANCELLED',
  TIMEOUT: 'TIMEOUT',
  STREAM_RESET: 'RESET',
  INTERRUPTED: 'SESSION_LOST',
  PROTOCOL_ERROR: 'PROTOCOL',
  LIMIT_EXCEEDED: 'LIMIT',
  STORAGE_FAILED: 'LIMIT',
};

/** What a failure is called on the other side. The reset of another stream is passed on as it is. */
function resetNameOf(error: Error | null): ResetName {
  if (error === null) return 'CANCELLED';
  if (isFairleadError(error)) {
    const reset = error.details?.['reset'];
    if (typeof reset === 'string' && Object.hasOwn(RESET_CODES, reset)) {
      // SAFETY: a key of the table, just checked.
      return reset as ResetName;
    }
    return RESETS_OF_ERRORS[error.code] ?? 'INTERNAL';
  }
  const code = 'code' in error ? String(error.code) : '';
  return ERRNO_RESETS[code] ?? 'INTERNAL';
}

export { joinDuplex } from './join-duplex.ts';
