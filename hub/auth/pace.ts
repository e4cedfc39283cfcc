/**
 * How many handshakes a second the hub takes on: as many as its event loop keeps up with, between a floor and a ceiling.
 *
 *     behind (its lag is over the target)   a quarter less, each STEP_MS, down to the floor
 *     keeping up                            a quarter of the ceiling more, each second, up to the ceiling
 *
 * So a fleet that comes back at once is let in as fast as this machine can, and what is let in already is served meanwhile.
 */
export interface PaceOptions {
  readonly floorPerSecond: number;
  readonly ceilingPerSecond: number;
  /** The lag at which the hub counts as behind. */
  readonly targetLagMs: number;
  /** The lag at this moment, in milliseconds. */
  readonly lagMs: () => number;
  /** Milliseconds that never go back. */
  readonly now: () => number;
}

/** Less often than the lag is measured, so that a step is seen in it before the next. */
const STEP_MS = 200;
const LESS = 0.75;
const MORE_PER_SECOND = 0.25;

export class Pace {
  readonly #options: PaceOptions;
  #perSecond: number;
  #steppedMs: number;

  constructor(options: PaceOptions) {
    this.#options = options;
    this.#perSecond = options.ceilingPerSecond;
    this.#steppedMs = options.now();
  }

  get isBehind(): boolean {
    return this.#options.lagMs() > this.#options.targetLagMs;
  }

  /** Of this moment. Asked for with each handshake; nothing need happen between two. */
  get perSecond(): number {
    const { floorPerSecond, ceilingPerSecond, now } = this.#options;
    const elapsedMs = now() - this.#steppedMs;
    if (elapsedMs < STEP_MS) return this.#perSecond;
    this.#steppedMs = now();
    const next = this.isBehind
      ? this.#perSecond * LESS
      : this.#perSecond + ceilingPerSecond * MORE_PER_SECOND * (elapsedMs / 1000);
    this.#perSecond = Math.min(ceilingPerSecond, Math.max(Math.min(floorPerSecond, ceilingPerSecond), next));
    return this.#perSecond;
  }
}
