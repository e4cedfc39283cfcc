/**
 * A log as a stream: from a position to its end, and with `follow` on as it grows, over rolling and over restarts of the VM, until the log
 * is removed. The log is the only buffer, so any number of readers cost its writer nothing; one that falls behind by more than is kept is
 * ended with LIMIT_EXCEEDED, never with a hole. What is written to the stream goes to `input`, or to nowhere.
 */
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { orAborted } from '../deadline.ts';
import type { LogChanges } from './log-changes.ts';
import type { LogInUse } from './log-keeper.ts';

export interface LogStreamOptions {
  /** Released with the stream. */
  readonly inUse: LogInUse;
  readonly changes: LogChanges;
  readonly position: number;
  readonly follow: boolean;
  /** From when it fires, nothing more is waited for: the stream ends where the log does. A reason of INTERRUPTED breaks it instead. */
  readonly end?: AbortSignal | undefined;
  readonly input?: ((bytes: Uint8Array) => Promise<void>) | undefined;
}

const CHUNK_BYTES = 64 * 1024;
/** A guest that writes byte by byte is read in pieces of so much time. */
const PACE_MS = 4;

export function logStream(options: LogStreamOptions): Duplex {
  return new LogStream(options);
}

class LogStream extends Duplex {
  readonly #options: LogStreamOptions;
  readonly #over = new AbortController();
  #position: number;
  #isReading = false;
  /** When less than a whole chunk was read last. */
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(options: LogStreamOptions) {
    super({ allowHalfOpen: true, readableHighWaterMark: CHUNK_BYTES });
    this.#options = options;
    this.#position = options.position;
  }

  override _read(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    this.#next().then(
      (bytes) => {
        this.#isReading = false;
        if (!this.destroyed) this.push(bytes);
      },
      (error: unknown) => {
        if (!this.#over.signal.aborted) this.destroy(toFairleadError(error));
      },
    );
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: Callback): void {
    void settle(this.#options.input?.(chunk), callback);
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#over.abort();
    const { inUse, changes } = this.#options;
    changes[Symbol.dispose]();
    void settle(inUse[Symbol.asyncDispose](), (thrown) => callback(error ?? thrown));
  }

  /** The next bytes; null at the end. */
  async #next(): Promise<Buffer | null> {
    const { inUse, changes, follow, end } = this.#options;
    for (;;) {
      const earlyMs = this.#readAt + PACE_MS - performance.now();
      if (earlyMs > 0) await sleep(earlyMs);
      const isLast = !follow || end?.aborted === true;
      // Asked for before the look: what is written after it counts.
      const changed = changes.next();
      const { position, bytes } = await inUse.log.read(this.#position, CHUNK_BYTES);
      if (position > this.#position) throw this.#fellBehind(position - this.#position);
      if (bytes.length > 0) {
        this.#position += bytes.length;
        if (bytes.length < CHUNK_BYTES) this.#readAt = performance.now();
        return bytes;
      }
      if (end?.aborted === true && toFairleadError(end.reason).code === 'INTERRUPTED') throw end.reason;
      if (isLast || (await inUse.log.extent()).isGone) return null;
      await this.#either(changed, end);
    }
  }

  /** Until one of them comes, or the stream is destroyed. */
  async #either(changed: Promise<void>, end: AbortSignal | undefined): Promise<void> {
    const ended = end === undefined ? changed : orAborted(changed, end).catch(() => {});
    await orAborted(ended, this.#over.signal);
  }

  #fellBehind(bytes: number): FairleadError {
    const what = `the reader of a log fell behind: ${bytes} bytes that it had not read yet are not kept any more`;
    return new FairleadError('LIMIT_EXCEEDED', `${what}; begin again`, { details: { lostBytes: bytes } });
  }
}

type Callback = (error: Error | null) => void;

async function settle(work: PromiseLike<void> | undefined, callback: Callback): Promise<void> {
  let failure: Error | null = null;
  try {
    await work;
  } catch (error) {
    failure = toFairleadError(error);
  }
  callback(failure);
}
