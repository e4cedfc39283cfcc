/**
 * Group commit: what was written in one turn of the event loop, or while the last commit ran, is one transaction with one sync.
 *
 *     idle ──write──▶ gathering ──end of the turn──▶ committing ──durable──▶ idle, or committing what came meanwhile
 *                                                        └── failed: that batch and all that waits is rejected ──▶ idle
 *
 * What waits may build on what failed, so that all of it goes; whoever keeps something of writes that are not durable yet hears of it
 * first (`onRolledBack`).
 */
import { FairleadError } from '../../shared/errors.ts';
import { CommitFailed, type Committer } from './committer.ts';
import type { StoreHealth } from './store.ts';
import type { Write } from './write.ts';

interface Waiting {
  readonly write: Write;
  resolve(): void;
  reject(error: FairleadError): void;
}

/** sqlite.org/rescode.html: the disk is full, or fails; the low byte of an extended code. */
const SQLITE_FULL = 13;

export class WriteQueue {
  readonly #committer: Committer;
  readonly #listeners: Array<() => void> = [];
  #waiting: Waiting[] = [];
  #isBusy = false;
  #lastRevision: number;
  #closed: Promise<void> | undefined;
  #idle: PromiseWithResolvers<void> | undefined;
  #health: StoreHealth = { ok: true };

  constructor(committer: Committer, lastRevision: number) {
    this.#committer = committer;
    this.#lastRevision = lastRevision;
  }

  get health(): StoreHealth {
    return this.#health;
  }

  nextRevision(): number {
    this.#lastRevision += 1;
    return this.#lastRevision;
  }

  /** `listener` is called when nothing is under way any more and none of what was has happened. */
  onRolledBack(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** @throws FairleadError STORAGE_FAILED, and then it has not happened; INTERNAL once closed */
  async write(write: Write): Promise<void> {
    this.requireOpen();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ write, resolve, reject });
    if (!this.#isBusy) {
      this.#isBusy = true;
      setImmediate(() => void this.#run());
    }
    await promise;
  }

  /** @throws FairleadError INTERNAL */
  requireOpen(): void {
    if (this.#closed !== undefined) throw new FairleadError('INTERNAL', 'the store is closed');
  }

  /** Commits what waits. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    if (this.#isBusy) {
      this.#idle = Promise.withResolvers();
      await this.#idle.promise;
    }
    await this.#committer.close();
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      await this.#commit(batch);
    }
    this.#isBusy = false;
    this.#idle?.resolve();
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    try {
      await this.#committer.commit({ writes: batch.map(({ write }) => write), lastRevision: this.#lastRevision });
    } catch (cause) {
      const error = storageFailed(cause);
      this.#health = { ok: false, reason: error.message };
      const failed = [...batch, ...this.#waiting];
      this.#waiting = [];
      for (const listener of this.#listeners) listener();
      for (const { reject } of failed) reject(error);
      return;
    }
    this.#health = { ok: true };
    for (const { resolve } of batch) resolve();
  }
}

function storageFailed(cause: unknown): FairleadError {
  const isFull = cause instanceof CommitFailed && cause.errcode === SQLITE_FULL;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const remedy = isFull ? 'its disk is full; make room' : 'look at its disk';
  return new FairleadError('STORAGE_FAILED', `could not write to the hub's store (${reason}): ${remedy}`, { cause });
}
