/**
 * Streams that end at the hub itself: operators bring images, hosts fetch them. Each is answered once it is known that it can be done;
 * what goes wrong later is its reset. Bottom half: never throws.
 */
import { type Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { GRACE_MS } from '../../shared/mux/limits.ts';
import type { StreamKey } from '../../shared/mux/numbers.ts';
import type { MuxSession } from '../../shared/mux/session.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import type { Params } from '../../shared/protocol/methods.ts';
import { IMAGE_PULL, ImagePull } from '../../shared/protocol/methods-image.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { HubLogger } from '../logger.ts';
import type { ImageBook } from './image-book.ts';
import { Throttle } from './throttle.ts';

export interface ImageStreamsOptions {
  readonly book: ImageBook;
  /** Of one image, in bytes. */
  readonly maxImageBytes: number;
  /** To one host, in bytes a second; 0 is no limit. */
  readonly imageRate: number;
  readonly logger: HubLogger;
}

export class ImageStreams {
  readonly #options: ImageStreamsOptions;
  /** Streams that ended here, for as long as an operator may come back for one. */
  readonly #keys = new Set<StreamKey>();
  readonly #throttles = new WeakMap<MuxSession, Throttle>();

  constructor(options: ImageStreamsOptions) {
    this.#options = options;
  }

  /** Nothing waits here for a stream whose line broke: it is opened anew, and begins where the bytes on disk end. */
  isOurs(key: StreamKey): boolean {
    return this.#keys.has(key);
  }

  /** An operator brings an image. `onEnd` is told how it went. */
  push(from: RawStream, params: JsonObject, session: MuxSession, by: string, onEnd: (code: string) => void): void {
    void this.#serve(from, session, onEnd, (accept, signal) => this.#push(parseParams('image.push', params), by, accept, signal));
  }

  /** A host opens a stream. */
  fromHost(from: RawStream, { method, params }: JsonObject, session: MuxSession, host: string): void {
    const throttle = this.#throttleOf(session);
    void this.#serve(
      from,
      session,
      () => {},
      async (accept, signal) => {
        if (method !== IMAGE_PULL) {
          throw new FairleadError('METHOD_NOT_FOUND', `a host opens ${IMAGE_PULL} at its hub, and nothing else`);
        }
        await this.#pull(parseWith(ImagePull, params, 'params'), { host, throttle }, accept, signal);
      },
    );
  }

  async #push({ digest, bytes }: Params<'image.push'>, by: string, accept: Accept, signal: AbortSignal): Promise<void> {
    const { book, maxImageBytes } = this.#options;
    if (bytes > maxImageBytes) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `an image may have ${maxImageBytes} bytes here (maxImageBytes), this has ${bytes}`,
      );
    }
    const isHere = (await book.find(digest)) !== undefined;
    await using reception = isHere ? undefined : await book.files.receive(digest, bytes);
    signal.throwIfAborted();
    const channel = accept({ offset: reception?.offset ?? bytes });
    for await (const chunk of channel.iterator({ destroyOnReturn: false })) {
      if (reception === undefined) throw new FairleadError('PROTOCOL_ERROR', `${digest} is here already, whole`);
      await reception.write(chunk);
    }
    if (reception !== undefined) {
      await reception.finish();
      await book.add(digest, bytes, by);
    }
    await pipeline(Readable.from([`${JSON.stringify({ digest, bytes })}\n`]), channel);
  }

  async #pull(
    { digest, offset }: { digest: string; offset: number },
    to: { readonly host: string; readonly throttle: Throttle },
    accept: Accept,
    signal: AbortSignal,
  ): Promise<void> {
    const { book } = this.#options;
    const blob = await book.find(digest);
    if (blob === undefined) throw new FairleadError('NOT_FOUND', `the hub has no image ${digest}`);
    if (offset > blob.bytes)
      throw new FairleadError('INVALID_PARAMS', `${digest} has ${blob.bytes} bytes, and no offset ${offset}`);
    await book.pulling(digest, to.host);
    signal.throwIfAborted();
    const channel = accept({ bytes: blob.bytes });
    channel.resume();
    await pipeline(book.files.read(digest, offset), paced(to.throttle), channel);
  }

  #throttleOf(session: MuxSession): Throttle {
    const known = this.#throttles.get(session);
    if (known !== undefined) return known;
    const throttle = new Throttle(this.#options.imageRate);
    this.#throttles.set(session, throttle);
    return throttle;
  }

  /** Until it is accepted, a stream has to be listened to, so that a reset of its opener is not lost. */
  async #serve(
    from: RawStream,
    session: MuxSession,
    onEnd: (code: string) => void,
    run: (accept: Accept, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { key } = from;
    this.#keys.add(key);
    const given = new AbortController();
    from.attach({ onData() {}, onFin() {}, onReset: (_code, reason) => given.abort(new FairleadError('CANCELLED', reason)) });
    let isAnswered = false;
    let channel: Duplex | undefined;
    const accept: Accept = (answer) => {
      isAnswered = true;
      channel = channelDuplex(MuxChannel.accept(session, from, answer));
      // Whoever works on it sees its end by itself.
      channel.on('error', () => {});
      return channel;
    };
    try {
      await run(accept, given.signal);
      onEnd('OK');
    } catch (thrown) {
      const error = toFairleadError(thrown);
      onEnd(error.code);
      if (error.code === 'INTERNAL') this.#options.logger.error({ err: thrown }, 'a stream of an image failed');
      if (isAnswered) channel?.destroy(error);
      else if (!given.signal.aborted) from.refuse(error);
    } finally {
      setTimeout(() => this.#keys.delete(key), GRACE_MS).unref();
    }
  }
}

/** Takes the stream, with the meta of its answer. */
type Accept = (answer: JsonObject) => Duplex;

function paced(throttle: Throttle) {
  return async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of chunks) {
      await throttle.pass(chunk.length);
      yield chunk;
    }
  };
}
