/**
 * Notices that nobody wants anything of a VM with an idle policy: no call under way and no stream open for the policy's time. Then it has the
 * VM suspended, and waits once more where that fails.
 *
 *     in use ── the last use ends ──▶ quiet ── suspendAfterMs, and no hold lasts ──▶ suspended ── the next use wakes it ──▶ in use
 *                                      ▲ └── a use begins ──▶ in use                    │
 *                                      └───────────────── could not be ─────────────────┘
 */
import { MAX_TIMER_MS } from '../deadline.ts';

export interface IdleWatchOptions {
  readonly policy: () => { readonly suspendAfterMs: number } | undefined;
  /** Whether the guest runs and has finished booting, as far as it tells. */
  readonly isAwake: () => boolean;
  /** Never rejects. */
  readonly suspend: () => Promise<void>;
}

export class IdleWatch implements Disposable {
  readonly #options: IdleWatchOptions;
  #uses = 0;
  #quietSince = performance.now();
  #heldUntil = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(options: IdleWatchOptions) {
    this.#options = options;
  }

  /** Whether the policy's time is over and nothing has begun since. */
  get isIdle(): boolean {
    return this.#uses === 0 && this.#leftMs() <= 0;
  }

  /** Somebody wants something of the VM, until disposed of. */
  use(): Disposable {
    this.#uses++;
    clearTimeout(this.#timer);
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#uses--;
        this.#quietSince = performance.now();
        this.#plan();
      },
    };
  }

  /** Not before then, whoever is there; a hold that is shorter than one before it changes nothing. */
  hold(forMs: number): Date {
    this.#heldUntil = Math.max(this.#heldUntil, performance.now() + forMs);
    this.#plan();
    return new Date(Date.now() + this.#heldUntil - performance.now());
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #leftMs(): number {
    const { suspendAfterMs = Number.POSITIVE_INFINITY } = this.#options.policy() ?? {};
    return Math.max(this.#quietSince + suspendAfterMs, this.#heldUntil) - performance.now();
  }

  #plan(): void {
    clearTimeout(this.#timer);
    const leftMs = this.#leftMs();
    if (this.#uses > 0 || this.#isOver || leftMs === Number.POSITIVE_INFINITY) return;
    // Never keeps the agent up; a wait that is too long for one timer is made of several.
    this.#timer = setTimeout(() => void this.#onTime(), Math.min(Math.max(0, leftMs), MAX_TIMER_MS)).unref();
  }

  async #onTime(): Promise<void> {
    if (!this.isIdle) return this.#plan();
    if (this.#options.isAwake()) await this.#options.suspend();
    // Asleep by now, or to be looked at again when as much time has gone by; whoever starts or wakes it is a use.
    this.#quietSince = performance.now();
    this.#plan();
  }
}
