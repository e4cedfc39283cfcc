/** Tells that something may have happened to a log, by inotify; where that cannot be had, each half second. */
import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

const POLL_MS = 500;

export class LogChanges implements Disposable {
  readonly #watcher: FSWatcher | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  #next = Promise.withResolvers<void>();

  constructor(path: string) {
    const log = basename(path);
    try {
      // The directory, since the log may not be there yet.
      this.#watcher = watch(dirname(path), (event, name) => {
        if (event === 'rename' || name === log) this.#tell();
      });
      this.#watcher.on('error', () => this.#tell());
    } catch {
      this.#timer = setInterval(() => this.#tell(), POLL_MS).unref();
    }
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
    clearInterval(this.#timer);
  }

  /** Settles at the next change from now on. */
  next(): Promise<void> {
    return this.#next.promise;
  }

  #tell(): void {
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers();
    resolve();
  }
}
