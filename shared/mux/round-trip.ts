/** Round-trip time from PINGs that carry their own time in microseconds; smoothed as TCP does it (RFC 6298 §2). */
const MAX_OUTSTANDING = 8;

export class RoundTrip {
  readonly #now: () => number;
  readonly #outstanding = new Set<number>();
  #smoothedMs: number | undefined;

  /** `now` in monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  get smoothedMs(): number | undefined {
    return this.#smoothedMs;
  }

  /** The value for a PING that goes out now. */
  start(): number {
    const value = this.#micros();
    if (this.#outstanding.size >= MAX_OUTSTANDING) {
      const [oldest] = this.#outstanding;
      if (oldest !== undefined) this.#outstanding.delete(oldest);
    }
    this.#outstanding.add(value);
    return value;
  }

  /** A PONG came. One that answers no PING of ours tells nothing and is passed over. */
  end(value: number): void {
    if (!this.#outstanding.delete(value)) return;
    const sampleMs = (this.#micros() - value) / 1000;
    this.#smoothedMs = this.#smoothedMs === undefined ? sampleMs : this.#smoothedMs * 0.875 + sampleMs * 0.125;
  }

  #micros(): number {
    return Math.max(0, Math.round(this.#now() * 1000));
  }
}
