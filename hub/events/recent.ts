/** The newest entries of a numbered log, in memory, and whoever waits for the next one. Numbers have no gap. */
const CAPACITY = 4096;

export class Recent<T extends { readonly seq: number }> {
  #entries: T[] = [];
  #last: number;
  /** Of those who wait for the next one; undefined while nobody does. */
  #more: PromiseWithResolvers<void> | undefined;

  constructor(last: number) {
    this.#last = last;
  }

  get last(): number {
    return this.#last;
  }

  add(entries: readonly T[]): void {
    this.#entries.push(...entries);
    this.#last = this.#entries.at(-1)?.seq ?? this.#last;
    if (this.#entries.length > 2 * CAPACITY) this.#entries = this.#entries.slice(-CAPACITY);
    this.#more?.resolve();
    this.#more = undefined;
  }

  /** Undefined when some of them are not here any more. */
  after(seq: number, limit: number): readonly T[] | undefined {
    const first = this.#entries[0]?.seq ?? this.#last + 1;
    if (seq < first - 1) return undefined;
    return this.#entries.slice(seq - first + 1, seq - first + 1 + limit);
  }

  /** Resolves when there is one with a higher number, or the signal fires. */
  async moreThan(seq: number, signal: AbortSignal): Promise<void> {
    if (this.#last > seq || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = () => resolve();
    signal.addEventListener('abort', stop, { once: true });
    this.#more ??= Promise.withResolvers();
    await Promise.race([this.#more.promise, promise]);
    signal.removeEventListener('abort', stop);
  }
}
