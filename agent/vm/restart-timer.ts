/** Waits for the restart of one VM to be due. Never keeps the agent up. */
import { MAX_TIMER_MS } from './deadline.ts';
import { type RestartPlan, waitOf } from './restart.ts';

export class RestartTimer {
  readonly #onDue: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(onDue: () => void) {
    this.#onDue = onDue;
  }

  /** In place of what was planned before; nothing is due without a time. */
  set(plan: RestartPlan | undefined): void {
    this.cancel();
    if (plan?.dueAt === undefined) return;
    const waitMs = waitOf(plan.dueAt, Date.now());
    // A wait that is too long for one timer is made of several.
    const onTime = waitMs > MAX_TIMER_MS ? () => this.set(plan) : this.#onDue;
    this.#timer = setTimeout(onTime, Math.min(waitMs, MAX_TIMER_MS)).unref();
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
