/**
 * So many a turn of the event loop, in the order in which they came. When a fleet comes back, a thousand hosts have something to say at once: handled
 * in one turn they would hold up everybody else for a second, and go on in step, so that each of their next messages would do so again.
 *
 *     none waits ──next()──▶ some wait ──each turn: the first so many go on──▶ some wait, or none
 */
import type { Clock } from '../../shared/clock.ts';

interface Waiting {
  readonly sinceMs: number;
  goOn(): void;
}

export class Turns {
  readonly #perTurn: number;
  readonly #clock: Clock;
  readonly #endOfTurn: (run: () => void) => void;
  #waiting: Waiting[] = [];

  /** `endOfTurn` is for tests. */
  constructor(perTurn: number, clock: Clock, endOfTurn: (run: () => void) => void = setImmediate) {
    this.#perTurn = perTurn;
    this.#clock = clock;
    this.#endOfTurn = endOfTurn;
  }

  /** Milliseconds for which the one that is next has waited. */
  get waitMs(): number {
    const [next] = this.#waiting;
    return next === undefined ? 0 : this.#clock.now() - next.sinceMs;
  }

  /** Resolves in a turn of one's own; that of this very moment is over by then. */
  async next(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.#waiting.length === 0) this.#endOfTurn(() => this.#go());
    this.#waiting.push({ sinceMs: this.#clock.now(), goOn: resolve });
    await promise;
  }

  #go(): void {
    const now = this.#waiting.splice(0, this.#perTurn);
    if (this.#waiting.length > 0) this.#endOfTurn(() => this.#go());
    for (const { goOn } of now) goOn();
  }
}
