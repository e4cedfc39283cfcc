/**
 * When a connection that may be jammed (stopped-stream.ts) is tried to be revived (reviver.ts).
 *
 *     off ── it may be jammed, and something was written or read ──▶ moving ◀───────────────────────────────┐
 *      ▲                                                              │ nothing moved for FIRST_MS          │
 *      ├── read to its end by the daemon, no longer in doubt,         ▼                                     │
 *      │   not read from (until it is), quiet (until it is over) ── still ── try; wait twice as long ──▶ it moves
 *      └────────────────────────────────────────────────────────────  ▲ │                               (or was revived)
 *                                                                     └─┘ nothing moved, up to LAST_MS
 *
 * A guest that only does not read costs one try in LAST_MS, and is not hurt by it.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Reviver } from './reviver.ts';

const FIRST_MS = 200;
const LAST_MS = 10_000;
/** A daemon that has had so many chances in a row to hand something on has nothing to hand on. */
const CHANCES = 4;

export interface RevivalOptions {
  readonly socket: Socket;
  readonly reviver: Pick<Reviver, 'unavailable' | 'untaken' | 'revive'>;
  /** It may be jammed. */
  readonly isDoubtful: () => boolean;
  /** The daemon is to be left alone. */
  readonly isQuiet: () => boolean;
  /** Resolves when it is not. */
  readonly whenLoud: () => Promise<void>;
  /** Told of each revival, with how many there were. */
  readonly onRevived: (times: number) => void;
  /** Bytes on their way into the guest are lost: the stream is to be ended with an error. */
  readonly onBroken: () => void;
  readonly firstMs?: number | undefined;
}

export class Revival {
  readonly #options: RevivalOptions;
  readonly #firstMs: number;
  #timer: NodeJS.Timeout | undefined;
  /** A try or the end of a quiet is waited for. */
  #isBusy = false;
  #waitMs: number;
  #times = 0;
  #chances = 0;
  #cannot: string | undefined;

  constructor(options: RevivalOptions) {
    this.#options = options;
    this.#firstMs = options.firstMs ?? FIRST_MS;
    this.#waitMs = this.#firstMs;
    options.socket.on('resume', () => this.look());
    options.socket.once('close', () => clearTimeout(this.#timer));
  }

  /** How often it was revived. */
  get times(): number {
    return this.#times;
  }

  /** Why it could not be tried when it was to be last. */
  get cannot(): string | undefined {
    return this.#cannot ?? this.#options.reviver.unavailable;
  }

  /** It was tried in vain, several times since it moved last: then it is the guest that does not read. */
  get isGuests(): boolean {
    return this.#chances >= CHANCES;
  }

  /** Something was written to it, or it is read from again. */
  look(): void {
    if (this.#timer === undefined && !this.#isBusy) this.#wait();
  }

  /** Much came from it. */
  moved(): void {
    if (this.#waitMs > this.#firstMs) this.#startOver();
    this.look();
  }

  #startOver(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waitMs = this.#firstMs;
    this.#chances = 0;
  }

  #wait(): void {
    const { socket, reviver, isDoubtful, isQuiet, whenLoud } = this.#options;
    if (socket.destroyed || socket.isPaused() || !isDoubtful()) return this.#startOver();
    if (isQuiet()) return this.#after(whenLoud().then(() => sleep(this.#firstMs, undefined, { ref: false })));
    const [read, untaken] = [socket.bytesRead, reviver.untaken(socket)];
    const isStill = (): boolean =>
      socket.bytesRead === read && !socket.destroyed && !socket.isPaused() && !isQuiet() && reviver.untaken(socket) === untaken;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (reviver.untaken(socket) === 0 && socket.writableLength === 0) return this.#startOver();
      if (untaken > 0 && isDoubtful() && isStill()) return this.#after(this.#try(isStill));
      this.#startOver();
      this.#wait();
    }, this.#waitMs).unref();
  }

  #after(promise: Promise<void>): void {
    this.#isBusy = true;
    void promise.then(() => {
      this.#isBusy = false;
      this.look();
    });
  }

  async #try(isStill: () => boolean): Promise<void> {
    const { socket, reviver, onRevived, onBroken } = this.#options;
    this.#waitMs = Math.min(2 * this.#waitMs, LAST_MS);
    const result = await reviver.revive(socket, isStill);
    if (result === 'idle') this.#chances += 1;
    // Its guest would be asked for room while it does not read, or it stands still as a whole.
    else if (result === 'asleep') this.#chances = 0;
    if (result !== 'left' && result !== 'asleep') this.#cannot = typeof result === 'object' ? result.cannot : undefined;
    if (result === 'broken') onBroken();
    if (result !== 'revived') return;
    this.#startOver();
    this.#times += 1;
    onRevived(this.#times);
  }
}
