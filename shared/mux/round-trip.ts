/** Round-trip time from PINGs that carry their own time in microseconds; smoothed as TCP does it (RFC 6298 §2). */
const MAX_OUTSTANDING = 64;

export class RoundTrip {
  readonly #now: () => number;
  /** Of the PINGs under way, in order; each is another, also of those of one moment. */
  #outstanding: { readonly value: number; readonly at: number }[] = [];
  #lastValue = -1;
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
    const at = this.#now();
    const value = Math.max(this.#lastValue + 1, Math.round(at * 1000));
    this.#lastValue = value;
    if (this.#outstanding.length >= MAX_OUTSTANDING) this.#outstanding.shift();
    this.#outstanding.push({ value, at });
    return value;
  }

  /** A PONG came; PINGs before that one get none any more. False: it answers no PING of ours, and tells nothing. */
  end(value: number): boolean {
    const index = this.#outstanding.findIndex((ping) => ping.value === value);
    const ping = this.#outstanding[index];
    if (ping === undefined) return false;
    this.#outstanding = this.#outstanding.slice(index + 1);
    const sampleMs = this.#now() - ping.at;
    this.#smoothedMs = this.#smoothedMs === undefined ? sampleMs : this.#smoothedMs * 0.875 + sampleMs * 0.125;
    return true;
  }
}
