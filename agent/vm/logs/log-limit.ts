/**
 * Bounds the logs that a guest can make grow: its serial console, and the words of QEMU and the vsock daemon about it. Without a bound a
 * guest fills the disk that every VM's record is on.
 *
 * Whoever writes has the file open for appending, so it can be cut to nothing under its hands and goes on at the new end. The last of it is
 * kept beside, as `….1`; what is written between the two is lost.
 */
import { toFairleadError } from '../../../shared/errors.ts';
import type { Logger } from '../api.ts';
import { openPlain } from './plain-file.ts';

/** Looked at so often: a console gives some MB a second at most. */
const INTERVAL_MS = 5_000;
const MAX_BYTES = 16 * 1024 ** 2;
const KEEP_BYTES = 1024 ** 2;

export interface LogLimitOptions {
  /** The logs of what runs now; those that are not there are passed over. */
  readonly paths: () => readonly string[];
  readonly logger: Logger;
  readonly maxBytes?: number;
  readonly keepBytes?: number;
}

export class LogLimit implements Disposable {
  readonly #options: LogLimitOptions;
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  constructor(options: LogLimitOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.look(), INTERVAL_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** Never rejects: a log that cannot be cut is told of, and looked at again. */
  async look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    for (const path of this.#options.paths()) {
      try {
        await this.#cut(path);
      } catch (error) {
        const { message } = toFairleadError(error);
        this.#options.logger.warn({ path, error: message }, 'could not cut a log that has grown too long');
      }
    }
    this.#looking = false;
  }

  async #cut(path: string): Promise<void> {
    const { maxBytes = MAX_BYTES, keepBytes = KEEP_BYTES, logger } = this.#options;
    const tail = await tailBeyond(path, maxBytes, keepBytes);
    if (tail === undefined) return;
    await using kept = await openPlain(`${path}.1`, 'replace');
    await kept.writeFile(tail);
    await using file = await openPlain(path, 'change');
    await file.truncate(0);
    logger.warn({ path, maxBytes }, 'a log was cut: its end is in the file of that name with .1');
  }
}

/** The last bytes of a file that has more than `maxBytes`; undefined for one that has not, or is not there. */
async function tailBeyond(path: string, maxBytes: number, keepBytes: number): Promise<Buffer | undefined> {
  try {
    await using file = await openPlain(path, 'read');
    const { size } = await file.stat();
    if (size <= maxBytes) return undefined;
    const tail = Buffer.alloc(keepBytes);
    const { bytesRead } = await file.read(tail, 0, keepBytes, size - keepBytes);
    return tail.subarray(0, bytesRead);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
