/**
 * What was read or written last, so that a record that is looked at several times within moments is read and checked once: each commit of the
 * thread that writes makes the next read look at the file anew. Of so many records and characters, unless all are held; the oldest goes.
 */
const MOST_RECORDS = 1024;
const MOST_CHARS = 1024 * 1024;

export class LatelyRead<T> {
  readonly #isHeld: boolean;
  readonly #kept = new Map<string, { readonly value: T; readonly chars: number }>();
  #chars = 0;

  constructor(isHeld: boolean) {
    this.#isHeld = isHeld;
  }

  get(key: string): T | undefined {
    return this.#kept.get(key)?.value;
  }

  set(key: string, value: T, chars: number): void {
    this.delete(key);
    this.#kept.set(key, { value, chars });
    this.#chars += chars;
    if (this.#isHeld) return;
    for (const [oldest] of this.#kept) {
      if (this.#chars <= MOST_CHARS && this.#kept.size <= MOST_RECORDS) return;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#chars -= this.#kept.get(key)?.chars ?? 0;
    this.#kept.delete(key);
  }

  clear(): void {
    this.#kept.clear();
    this.#chars = 0;
  }
}
