/**
 * Finds out that the other side is gone when nobody says so: a PING after a while in which nothing came, and dead after a longer one. Of two
 * sides that both do so the first to ask asks for both: its PING is heard by the one, and the PONG by the other.
 *
 * A process that was itself stopped (SIGSTOP, a suspended laptop) wakes up to timers that are long due, before it has read what the
 * other side sent meanwhile. It gives the other side one more interval then.
 */
import type { Clock, Timer } from '../clock.ts';

export interface HeartbeatOptions {
  readonly clock: Clock;
  /** Silence after which a PING goes out; each time up to 20 % shorter or longer, so that a fleet does not beat in step. */
  readonly intervalMs: number;
  readonly deadAfterMs: number;
  readonly onPing: () => void;
  readonly onDead: (silentMs: number) => void;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #heardAt: number;
  #pingTimer: Timer;
  #deadTimer: Timer;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#heardAt = options.clock.now();
    this.#pingTimer = this.#schedulePing();
    this.#deadTimer = this.#scheduleDead(options.deadAfterMs);
  }

  /** Something arrived. */
  heard(): void {
    this.#heardAt = this.#options.clock.now();
  }

  stop(): void {
    this.#pingTimer.cancel();
    this.#deadTimer.cancel();
  }

  #schedulePing(): Timer {
    const { clock, intervalMs, onPing } = this.#options;
    const quietMs = intervalMs * (0.8 + 0.4 * Math.random());
    const look = (): void => {
      const leftMs = quietMs - (clock.now() - this.#heardAt);
      // Something came meanwhile. In whole milliseconds: a part of one may be too little to get there.
      if (leftMs > 0) this.#pingTimer = clock.setTimeout(look, Math.ceil(leftMs));
      else {
        this.#pingTimer = this.#schedulePing();
        onPing();
      }
    };
    return clock.setTimeout(look, quietMs);
  }

  #scheduleDead(delayMs: number): Timer {
    const { clock, deadAfterMs, intervalMs, onDead } = this.#options;
    const dueAt = clock.now() + delayMs;
    return clock.setTimeout(() => {
      const now = clock.now();
      const silentMs = now - this.#heardAt;
      const overslept = now - dueAt > intervalMs;
      if (silentMs >= deadAfterMs && !overslept) onDead(silentMs);
      else this.#deadTimer = this.#scheduleDead(overslept ? intervalMs : deadAfterMs - silentMs);
    }, delayMs);
  }
}
