/** Asks `/readyz` all the time, and counts the answers that are wrong: anything but 200 of a hub that is there. */
import { setTimeout as sleep } from 'node:timers/promises';

const EVERY_MS = 100;
/** Longer than any answer may take before it counts as wrong. */
const TIMEOUT_MS = 5_000;

export class ReadinessWatch implements AsyncDisposable {
  readonly #url: string;
  readonly #over = new AbortController();
  readonly #running: Promise<void>;
  readonly #answersMs: number[] = [];
  #isThere = true;
  #wrong = 0;

  constructor(url: string) {
    this.#url = `${url}/readyz`;
    this.#running = this.#run();
  }

  get wrong(): number {
    return this.#wrong;
  }

  get p99Ms(): number {
    const sorted = this.#answersMs.toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
  }

  /** The hub is about to be killed. */
  expectAbsence(): void {
    this.#isThere = false;
  }

  expectPresence(): void {
    this.#isThere = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      if (this.#isThere) await this.#ask();
      await sleep(EVERY_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #ask(): Promise<void> {
    const startedAt = performance.now();
    const status = await fetch(this.#url, { signal: AbortSignal.timeout(TIMEOUT_MS), headers: { connection: 'close' } }).then(
      (response) => response.status,
      () => 0,
    );
    this.#answersMs.push(performance.now() - startedAt);
    if (status !== 200 && this.#isThere && !this.#over.signal.aborted) this.#wrong += 1;
  }
}
