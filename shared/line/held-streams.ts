/**
 * Streams of a dialler that outlive its lines: who they belong to, and for how long they wait.
 *
 *     on a line ── lost() ──▶ waiting ── resumed() ──▶ on the next line
 *                               └── the grace is over, end() ──▶ every stream ends with SESSION_LOST
 *
 * The grace counts from when the last line broke, whatever becomes of attempts meanwhile. Give it to each Line that is dialled.
 */
import { type Clock, systemClock, type Timer } from '../clock.ts';
import { FairleadError } from '../errors.ts';
import { GRACE_MS, SESSION_POOL_BYTES } from '../mux/limits.ts';
import { MemoryPool, processPool } from '../mux/pool.ts';
import { StreamTable } from '../mux/stream-table.ts';
import { randomId128 } from './random-id.ts';

export interface HeldStreamsOptions {
  readonly clock?: Clock | undefined;
  /** How long streams wait for the next line, in milliseconds. */
  readonly graceMs?: number | undefined;
  readonly pool?: MemoryPool | undefined;
}

export class HeldStreams implements Disposable {
  /** Of the session, as HELLO states it; the key is a secret. */
  readonly id = randomId128();
  readonly key = randomId128();
  readonly table: StreamTable;
  readonly #clock: Clock;
  readonly #graceMs: number;
  #timer: Timer | undefined;

  constructor({ clock = systemClock, graceMs = GRACE_MS, pool = processPool }: HeldStreamsOptions = {}) {
    this.table = new StreamTable({ role: 'dialer', pool: new MemoryPool(SESSION_POOL_BYTES, pool) });
    this.#clock = clock;
    this.#graceMs = graceMs;
  }

  /** Whether there is a reason to dial again for. */
  get isWaiting(): boolean {
    return this.table.isWaiting;
  }

  lost(): void {
    if (!this.isWaiting) return;
    this.#timer ??= this.#clock.setTimeout(() => {
      this.end(new FairleadError('INTERRUPTED', `the line did not come back within ${this.#graceMs} ms`));
    }, this.#graceMs);
  }

  resumed(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  end(error: FairleadError): void {
    this.resumed();
    this.table.end(error, { isLoss: false, onFault: () => {} });
  }

  [Symbol.dispose](): void {
    this.end(new FairleadError('INTERRUPTED', 'this side is closing'));
  }
}
