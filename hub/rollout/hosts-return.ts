/**
 * Hosts come back after a start of the hub, as fast as it lets them in. Until they are there no rollout counts a host without a line as unreachable,
 * and the time of rollouts stands still:
 *
 *     coming ──all that are known have a line──▶ over
 *        └──`settleMs` since the start, and none has come for a moment; at the longest six times that──▶ over
 */
import type { Clock } from '../../shared/clock.ts';

/** While a fleet comes back there is no pause of that length, however slowly the hub lets it in. */
const PAUSE_MS = 2000;
/** Hosts that come and go for ever hold up nothing. */
const LONGEST = 6;

export class HostsReturn {
  readonly #clock: Clock;
  readonly #settleMs: number;
  readonly #sinceMs: number;
  #untilMs: number;
  #awaited: Set<string> | undefined;

  /** At the start of the hub. */
  constructor(clock: Clock, settleMs: number) {
    this.#clock = clock;
    this.#settleMs = settleMs;
    this.#sinceMs = clock.now();
    this.#untilMs = this.#sinceMs + settleMs;
  }

  get isOver(): boolean {
    return this.#clock.now() >= this.#untilMs;
  }

  /** Milliseconds that never go back, and stand still until it is over: by what a host has for its work, and for a line to do it over. */
  now(): number {
    return this.#sinceMs + Math.max(0, this.#clock.now() - this.#untilMs);
  }

  /** These hosts are known and have no line yet. */
  expect(hosts: Iterable<string>): void {
    if (this.isOver) return;
    this.#awaited = new Set(hosts);
    this.#endIfAll();
  }

  connected(host: string): void {
    if (this.isOver) return;
    const latestMs = this.#sinceMs + LONGEST * this.#settleMs;
    this.#untilMs = Math.max(this.#untilMs, Math.min(latestMs, this.#clock.now() + PAUSE_MS));
    this.#awaited?.delete(host);
    this.#endIfAll();
  }

  #endIfAll(): void {
    if (this.#awaited?.size !== 0) return;
    this.#awaited = undefined;
    this.#untilMs = this.#clock.now();
  }
}
