/**
 * Fetches blobs from the hub, over the line, into files. Several that want one blob share one transfer; it goes on over lines that break,
 * from the bytes that are on disk, until it is whole or nobody waits for it any more.
 *
 *     asking ──▶ receiving ──▶ whole
 *        ▲           │ the line breaks ──▶ a wait, and from where it was
 *        └───────────┘ it is not what its digest says ──▶ once more from the beginning, and then given up
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '../../shared/backoff.ts';
import type { Cancellation } from '../../shared/cancellation.ts';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { MuxChannel } from '../../shared/mux/channel.ts';
import type { Blob, BlobFiles } from '../../shared/node/blob-files.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import type { Digest } from '../../shared/protocol/image-ref.ts';
import { IMAGE_PULL, ImagePulled } from '../../shared/protocol/methods-image.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { Logger } from '../vm/api.ts';

/** Opens a stream that ends at the hub, and with its line. @throws FairleadError INTERRUPTED without a line */
export type OpenAtHub = (meta: JsonObject, signal: AbortSignal) => Promise<MuxChannel>;

export interface PullProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface PullOptions {
  readonly signal?: Cancellation | undefined;
  /** Must not throw. Called for each piece. */
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
}

export interface PullerOptions {
  readonly files: BlobFiles;
  readonly openAtHub: OpenAtHub;
  /** Of one image, in bytes. */
  readonly maxImageBytes: number;
  readonly logger: Logger;
}

/** Waits between attempts, in milliseconds. */
const RETRY = { baseMs: 200, maxMs: 5_000 } as const;
/** What another attempt may mend; everything else is an answer. */
const MAY_PASS = new Set(['INTERRUPTED', 'TIMEOUT', 'STREAM_RESET', 'CONNECT_FAILED']);

interface Running {
  readonly done: Promise<Blob>;
  readonly waiting: Set<PullOptions>;
  readonly given: AbortController;
}

export class Puller implements AsyncDisposable {
  readonly #options: PullerOptions;
  readonly #running = new Map<Digest, Running>();

  constructor(options: PullerOptions) {
    this.#options = options;
  }

  /**
   * The blob, which is here already or is fetched now.
   * @throws FairleadError NOT_FOUND (the hub has none), PROTOCOL_ERROR (what comes is something else), LIMIT_EXCEEDED, STORAGE_FAILED, and
   * the signal's reason
   */
  async pull(digest: Digest, options: PullOptions = {}): Promise<Blob> {
    const here = await this.#options.files.find(digest);
    if (here !== undefined) return here;
    const running = this.#running.get(digest) ?? this.#begin(digest);
    running.waiting.add(options);
    const left = Promise.withResolvers<never>();
    const leave = (): void => left.reject(options.signal?.reason);
    if (options.signal?.aborted === true) leave();
    else options.signal?.addEventListener('abort', leave, { once: true });
    try {
      return await Promise.race([running.done, left.promise]);
    } finally {
      options.signal?.removeEventListener('abort', leave);
      running.waiting.delete(options);
      if (running.waiting.size === 0) running.given.abort(new FairleadError('CANCELLED', `nobody waits for ${digest} any more`));
    }
  }

  /** Gives up what is under way; what has come stays for the next agent. */
  async [Symbol.asyncDispose](): Promise<void> {
    const running = [...this.#running.values()];
    for (const { given } of running) given.abort(new FairleadError('CANCELLED', 'the agent is stopping'));
    await Promise.allSettled(running.map(({ done }) => done));
  }

  #begin(digest: Digest): Running {
    const waiting = new Set<PullOptions>();
    const given = new AbortController();
    const tell = (progress: PullProgress): void => {
      for (const { onProgress } of waiting) onProgress?.(progress);
    };
    const done = this.#untilWhole(digest, given.signal, tell).finally(() => {
      if (this.#running.get(digest) === running) this.#running.delete(digest);
    });
    done.catch(() => {});
    const running: Running = { done, waiting, given };
    this.#running.set(digest, running);
    return running;
  }

  async #untilWhole(digest: Digest, signal: AbortSignal, tell: (progress: PullProgress) => void): Promise<Blob> {
    const backoff = new Backoff(RETRY);
    let isSecondTry = false;
    for (;;) {
      signal.throwIfAborted();
      try {
        return await this.#attempt(digest, signal, tell);
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toFairleadError(thrown);
        const isOther: boolean = error.code === 'PROTOCOL_ERROR' && !isSecondTry;
        if (!isOther && !MAY_PASS.has(error.code)) throw error;
        isSecondTry ||= isOther;
        const retryInMs = backoff.failed();
        this.#options.logger.warn({ digest, code: error.code, retryInMs: Math.round(retryInMs) }, `image: ${error.message}`);
        await sleep(retryInMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      }
    }
  }

  async #attempt(digest: Digest, signal: AbortSignal, tell: (progress: PullProgress) => void): Promise<Blob> {
    const { files, maxImageBytes } = this.#options;
    const offset = await files.receivedOf(digest);
    const { channel, totalBytes } = await this.#open(digest, offset, signal);
    try {
      if (totalBytes > maxImageBytes) {
        throw new FairleadError(
          'LIMIT_EXCEEDED',
          `an image may have ${maxImageBytes} bytes here (maxImageBytes), ${digest} has ${totalBytes}`,
        );
      }
      await using reception = await files.receive(digest, totalBytes);
      if (reception.offset !== offset)
        throw new FairleadError('INTERRUPTED', `what had come of ${digest} is gone: it begins anew`);
      channel.end();
      for await (const chunk of channel.iterator({ destroyOnReturn: false })) {
        await reception.write(chunk);
        tell({ doneBytes: reception.offset, totalBytes });
      }
      return await reception.finish();
    } finally {
      channel.destroy();
    }
  }

  async #open(digest: Digest, offset: number, signal: AbortSignal) {
    const opened = await this.#options.openAtHub({ method: IMAGE_PULL, params: { digest, offset } }, signal);
    const channel = channelDuplex(opened);
    // The iterator tells; and somebody has to listen before it begins.
    channel.on('error', () => {});
    const give = (): void => void channel.destroy(toFairleadError(signal.reason));
    if (signal.aborted) give();
    signal.addEventListener('abort', give, { once: true });
    channel.once('close', () => signal.removeEventListener('abort', give));
    return { channel, totalBytes: parseWith(ImagePulled, opened.meta, 'image.pull', 'PROTOCOL_ERROR').bytes };
  }
}
