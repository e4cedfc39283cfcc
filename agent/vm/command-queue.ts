/** The commands of one VM, one after another in the order of their calls; VMs know nothing of each other. */
import { orAborted } from './deadline.ts';

export class CommandQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs when those before it have ended, whatever their outcome. Given up while it waits, it never runs. */
  async run<T>(signal: AbortSignal, command: () => Promise<T>): Promise<T> {
    const before = this.#last;
    const done = Promise.withResolvers<void>();
    this.#last = Promise.all([before, done.promise]);
    try {
      await orAborted(before, signal);
      return await command();
    } finally {
      done.resolve();
    }
  }
}
