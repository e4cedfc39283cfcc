/** Waits for the restart of one VM to be due. Never keeps the agent up. */
import { MAX_TIMER_MS } from './deadline.ts';
import { type RestartPlan, waitOf } from './restart.ts';

export class RestartTimer {
  readonly #onDue: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onDue: () => void) {
    this.#onDue = onDue;
  }

  /**
   * In place of what was planned before; nothing is due without a time. No plan waits for longer than `mostMs`: what is due later than that was
   * planned before the host's clock was set back.
   */
  set(plan: RestartPlan | undefined, mostMs: number): void {
    this.cancel();
    if (plan?.dueAt !== undefined) this.#wait(Math.min(waitOf(plan.dueAt, Date.now()), mostMs));
  }

  /** A wait that is too long for one timer is made of several. */
  #wait(leftMs: number): void {
    const thisMs = Math.min(leftMs, MAX_TIMER_MS);
    this.#timer = setTimeout(() => (leftMs > thisMs ? this.#wait(leftMs - thisMs) : this.#onDue()), thisMs).unref();
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
