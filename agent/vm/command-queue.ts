/** The commands of one VM, one after another in the order of their calls; VMs know nothing of each other. */
import { orAborted } from './deadline.ts';

export class CommandQueue {
  /** Settles when all that was called so far has ended; undefined when nothing runs or waits. */
  #busy: Promise<unknown> | undefined;

  get isIdle(): boolean {
    return this.#busy === undefined;
  }

  /** Runs when those before it have ended, whatever their outcome. Given up while it waits, it never runs. */
  async run<T>(signal: AbortSignal | undefined, command: () => Promise<T>): Promise<T> {
    const before = this.#busy;
    const done = Promise.withResolvers<void>();
    const busy = before === undefined ? done.promise : Promise.all([before, done.promise]);
    this.#busy = busy;
    try {
      if (before !== undefined) await (signal === undefined ? before : orAborted(before, signal));
      return await command();
    } finally {
      done.resolve();
      if (this.#busy === busy) this.#busy = undefined;
    }
  }
}
