/** A token bucket: `burst` at once, `perSecond` in the long run. */
export class RateLimit {
  readonly #burst: number;
  readonly #perMs: number;
  #tokens: number;
  #filledAt: number | undefined;

  constructor(options: { burst: number; perSecond: number }) {
    this.#burst = options.burst;
    this.#perMs = options.perSecond / 1000;
    this.#tokens = options.burst;
  }

  /** False when there was none left. `now` in monotonic milliseconds. */
  take(now: number): boolean {
    if (this.#tokens < 1) this.#refill(now);
    if (this.#tokens < 1) return false;
    this.#filledAt ??= now;
    this.#tokens -= 1;
    return true;
  }

  /** So many more, up to the burst: for what actions of ours entitle the other side to. */
  give(actions = 1): void {
    if (this.#tokens < this.#burst) this.#tokens = Math.min(this.#burst, this.#tokens + actions);
  }

  #refill(now: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - (this.#filledAt ?? now)) * this.#perMs);
    this.#filledAt = now;
  }
}
