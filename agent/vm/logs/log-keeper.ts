/**
 * The logs that a guest can make grow: its serial console, and the words of QEMU and the vsock daemon about it. Without a bound a guest fills
 * the disk that every VM's record is on, so each of them is looked at from time to time and rolled (rolling-log.ts). Whoever reads one
 * reads it through here, since reading and rolling must know of each other.
 */
import { toFairleadError } from '../../../shared/errors.ts';
import type { Logger } from '../common.ts';
import { RollingLog, type RollingLogOptions } from './rolling-log.ts';

/** Looked at so often: a console gives some MB a second at most. */
const INTERVAL_MS = 5_000;

export interface LogKeeperOptions extends Pick<RollingLogOptions, 'maxBytes' | 'segmentBytes'> {
  /** The logs of what runs now; those that are not there are passed over. */
  readonly paths: () => readonly string[];
  readonly logger: Logger;
}

/** A log in use, until disposed of. */
export interface LogInUse extends AsyncDisposable {
  readonly log: RollingLog;
}

interface Kept {
  readonly log: RollingLog;
  users: number;
}

export class LogKeeper implements Disposable {
  readonly #options: LogKeeperOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #kept = new Map<string, Kept>();
  #looking: Promise<void> | undefined;

  constructor(options: LogKeeperOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.look(), INTERVAL_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** Rolls what has grown too long. Never rejects: a log that cannot be rolled is told of, and looked at again. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  /** A log that was removed is another when there is one again. */
  async open(path: string): Promise<LogInUse> {
    const inUse = this.#use(path);
    try {
      if (!(await inUse.log.extent()).isGone) return inUse;
    } catch (error) {
      await inUse[Symbol.asyncDispose]();
      throw error;
    }
    if (this.#kept.get(path)?.log === inUse.log) this.#kept.delete(path);
    await inUse[Symbol.asyncDispose]();
    return this.#use(path);
  }

  /** Counted at once, before anything is waited for: the last user who leaves meanwhile would close the log. */
  #use(path: string): LogInUse {
    const kept = this.#kept.get(path) ?? { log: new RollingLog({ ...this.#options, path }), users: 0 };
    this.#kept.set(path, kept);
    kept.users += 1;
    return { log: kept.log, [Symbol.asyncDispose]: () => this.#release(path, kept) };
  }

  async #release(path: string, kept: Kept): Promise<void> {
    kept.users -= 1;
    if (kept.users > 0) return;
    if (this.#kept.get(path) === kept) this.#kept.delete(path);
    await kept.log[Symbol.asyncDispose]();
  }

  async #look(): Promise<void> {
    for (const path of this.#options.paths()) {
      try {
        await using inUse = await this.open(path);
        await inUse.log.roll();
      } catch (error) {
        const { message } = toFairleadError(error);
        this.#options.logger.warn({ path, error: message }, 'could not roll a log that has grown too long');
      }
    }
  }
}
