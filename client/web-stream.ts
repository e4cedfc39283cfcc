/**
 * A MuxChannel as the two streams of the web (Streams Standard), with back pressure both ways.
 *
 *   readable: a chunk is taken from the channel, which gives its credit back, when the reader asks for one
 *   writable: a write resolves when the next may follow; close() ends our direction alone, and resolves when the other end has consumed all;
 *     abort() resets the stream
 *
 * A reset errors both with the same FairleadError, but for a readable whose end has come: that is read to its end. Cancelling the readable resets the stream, since nobody would ever take the rest.
 */
import type { FairleadError } from '../shared/errors.ts';
import type { MuxChannel } from '../shared/mux/channel.ts';
import { RESET_CODES } from '../shared/mux/reset-codes.ts';

export interface WebStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

/** Takes the channel over: nobody else may use it. */
export function webStream(channel: MuxChannel): WebStream {
  const pending = new Pending(channel);
  const readable = new ReadableStream<Uint8Array>(
    {
      start: (controller) => pending.readBy(controller),
      pull: () => pending.pull(),
      cancel: () => channel.reset(RESET_CODES.CANCELLED, 'the reader takes no more'),
    },
    { highWaterMark: 0 },
  );
  const giveUp = (reason: unknown): void =>
    channel.reset(RESET_CODES.CANCELLED, reason instanceof Error ? reason.message : 'the writer gave up');
  const writable = new WritableStream<Uint8Array>({
    start: (controller) => {
      pending.writtenBy(controller);
      // `abort` below is not called as long as `close` waits, which a guest may keep it doing for ever.
      const signal = signalOf(controller);
      signal?.addEventListener('abort', () => giveUp(signal.reason));
    },
    write: (chunk) => {
      const bytes = copyOf(chunk);
      if (bytes === undefined) {
        channel.reset(RESET_CODES.CANCELLED, 'its writer wrote what is no bytes');
        throw new TypeError('a stream into a guest takes a Uint8Array, or another view of bytes');
      }
      return channel.write(bytes) ? undefined : pending.drained();
    },
    close: () => {
      channel.end();
      return pending.delivered();
    },
    abort: giveUp,
  });
  channel.attach({
    onReadable: () => pending.onReadable(),
    onDrain: () => pending.onDrain(),
    onDelivered: () => pending.onDelivered(),
    onClose: (error) => pending.onClose(error),
  });
  return { readable, writable };
}

/** Missing in Node's types. */
function signalOf(controller: WritableStreamDefaultController): AbortSignal | undefined {
  return 'signal' in controller && controller.signal instanceof AbortSignal ? controller.signal : undefined;
}

/** A writer may use its bytes again once the write has resolved (`slice` of a Node Buffer does not copy). Undefined of what is no bytes. */
function copyOf(chunk: unknown): Uint8Array | undefined {
  if (!ArrayBuffer.isView(chunk)) return undefined;
  return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength).slice();
}

/** What the streams wait for of their channel. */
class Pending {
  readonly #channel: MuxChannel;
  #reader: ReadableStreamDefaultController<Uint8Array> | undefined;
  #writer: WritableStreamDefaultController | undefined;
  #pulled: PromiseWithResolvers<void> | undefined;
  #drain: PromiseWithResolvers<void> | undefined;
  #delivery: PromiseWithResolvers<void> | undefined;

  constructor(channel: MuxChannel) {
    this.#channel = channel;
  }

  readBy(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#reader = controller;
  }

  writtenBy(controller: WritableStreamDefaultController): void {
    this.#writer = controller;
  }

  /** Settles when a chunk was given, or there is none any more: nothing is read ahead of its reader. */
  pull(): Promise<void> | undefined {
    if (this.#give()) return undefined;
    this.#pulled = Promise.withResolvers<void>();
    return this.#pulled.promise;
  }

  drained(): Promise<void> {
    this.#drain = Promise.withResolvers<void>();
    return this.#drain.promise;
  }

  /** Rejects with what the channel ends with instead. */
  delivered(): Promise<void> {
    this.#delivery = Promise.withResolvers<void>();
    return this.#delivery.promise;
  }

  onReadable(): void {
    if (this.#pulled !== undefined && this.#give()) this.#settle();
    // The end is no chunk, and comes without being asked for.
    else if (this.#channel.ended) this.#close();
  }

  onDrain(): void {
    this.#drain?.resolve();
    this.#drain = undefined;
  }

  onDelivered(): void {
    this.#delivery?.resolve();
  }

  onClose(error: FairleadError | undefined): void {
    if (error !== undefined) {
      this.#delivery?.reject(error);
      this.#writer?.error(error);
      if (!this.#channel.endReceived) this.#failReader(error);
    }
    this.onDrain();
  }

  #give(): boolean {
    const chunk = this.#channel.read();
    if (chunk !== undefined) this.#reader?.enqueue(chunk);
    if (this.#channel.ended) this.#close();
    return chunk !== undefined || this.#channel.ended;
  }

  #failReader(error: FairleadError): void {
    this.#reader?.error(error);
    this.#reader = undefined;
    this.#settle();
  }

  #close(): void {
    this.#reader?.close();
    this.#reader = undefined;
    this.#settle();
  }

  #settle(): void {
    this.#pulled?.resolve();
    this.#pulled = undefined;
  }
}
