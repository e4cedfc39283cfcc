/**
 * Full-jitter back-off of a connection that is kept for ever: the n-th wait is `rand(0, min(max, base · 2ⁿ))`, so that a fleet whose
 * hub went away does not come back in step. Nor is it ever more than twice the time that the other side has been away, where that is told: a
 * few short waits by chance would else be followed by one that is much longer than the outage. The count starts again only after a connection has held for `healthyMs`: one that is
 * accepted and dropped at once, over and over, still backs off.
 */
export interface BackoffOptions {
  readonly baseMs?: number | undefined;
  readonly maxMs?: number | undefined;
  readonly healthyMs?: number | undefined;
  /** Failures in a row so far, where another back-off is gone on with. */
  readonly failures?: number | undefined;
  /** In [0, 1); for tests. */
  readonly random?: (() => number) | undefined;
}

/** The longest wait for a connection that is missed: hardly felt by whoever uses it, and not the same for any two of a fleet. */
const MISSED_MS = 50;

export class Backoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #healthyMs: number;
  readonly #random: () => number;
  #failures: number;

  constructor(options: BackoffOptions = {}) {
    this.#baseMs = options.baseMs ?? 500;
    this.#maxMs = options.maxMs ?? 60_000;
    this.#healthyMs = options.healthyMs ?? 30_000;
    this.#failures = options.failures ?? 0;
    this.#random = options.random ?? Math.random;
  }

  /** Failures in a row, for logs and metrics. */
  get failures(): number {
    return this.#failures;
  }

  /**
   * How long to wait after one more failure. `upMs` is how long the connection held, 0 for one that was never made; `awayMs` how long there
   * has been none.
   */
  failed(upMs = 0, awayMs = Number.POSITIVE_INFINITY): number {
    if (upMs >= this.#healthyMs) this.#failures = 0;
    const ceiling = Math.min(this.#maxMs, this.#baseMs * 2 ** this.#failures, Math.max(this.#baseMs, 2 * awayMs));
    this.#failures += 1;
    return this.#random() * ceiling;
  }

  /**
   * How long to wait after a connection that held for `upMs`. One that is missed, since somebody was using it, is made again soon, once in
   * `healthyMs` at most. All waits after that are as they would have been, so that a fleet whose hub is gone is spread as before.
   */
  lost(upMs: number, isMissed: boolean): number {
    const ownMs = this.failed(upMs, 0);
    return isMissed && this.#failures === 1 ? this.told(0, Math.min(MISSED_MS, this.#maxMs)) : ownMs;
  }

  /**
   * How long to wait when the other side named a time itself (Retry-After, the spread of a GOAWAY). A request to wait is a floor:
   * the own jitter comes on top, since everybody was told the same. It does not count as a failure.
   */
  told(floorMs: number, spreadMs: number): number {
    return floorMs + this.#random() * spreadMs;
  }

  /** The longest that `failed` gives. */
  get maxMs(): number {
    return this.#maxMs;
  }
}
