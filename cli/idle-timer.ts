/**
 * How long a guest is waited for that cannot be told that the input for it has ended: anew with each byte of its own. Its host keeps the end
 * back. Input that the guest does not take is never given up in silence: that is a TIMEOUT.
 *
 *   start(): the input has ended
 *     └─▶ taking ── 'finish': all of it is taken ──▶ quiet ── nothing came for `idleMs` ──▶ onIdle()
 *            └──── nothing was taken for `takeMs` ──▶ onIdle(TIMEOUT)
 *
 * What is taken is told in lumps of up to a window, 64 KiB for a slow guest: hence the longer time.
 */
import type { Duplex } from 'node:stream';
import { FairleadError } from '../shared/errors.ts';
import { unconsumedBytes } from '../shared/node/channel-duplex.ts';

const TAKE_MS = 60_000;

export interface IdleTimes {
  /** How long a guest may be silent that has taken all; 0: nobody waits for its answer. */
  readonly idleMs: number;
  /** How long it may take nothing; a minute by default. */
  readonly takeMs?: number | undefined;
}

export class IdleTimer {
  readonly #stream: Duplex;
  readonly #idleMs: number;
  readonly #takeMs: number;
  readonly #onIdle: (error?: FairleadError) => void;
  #timer: NodeJS.Timeout | undefined;
  #untakenBytes = 0;

  /** `onIdle`: called once, with the reason when there is input that the guest has not taken. */
  constructor(stream: Duplex, { idleMs, takeMs = TAKE_MS }: IdleTimes, onIdle: (error?: FairleadError) => void) {
    this.#stream = stream;
    this.#idleMs = idleMs;
    this.#takeMs = takeMs;
    this.#onIdle = onIdle;
  }

  /** All input has been handed over: its end follows it. */
  start(): void {
    this.#untakenBytes = unconsumedBytes(this.#stream);
    this.#stream.once('finish', () => this.#beQuiet()).end();
    this.#timer = setTimeout(() => this.#look(), this.#takeMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #beQuiet(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onIdle(), this.#idleMs);
    this.#stream.on('data', () => this.#timer?.refresh());
  }

  #look(): void {
    const untakenBytes = unconsumedBytes(this.#stream);
    const isStuck = untakenBytes >= this.#untakenBytes;
    this.#untakenBytes = untakenBytes;
    if (!isStuck) return void this.#timer?.refresh();
    const what = `the guest took no more for ${this.#takeMs} ms, and has not taken ${untakenBytes} bytes of the input`;
    this.#onIdle(new FairleadError('TIMEOUT', `${what}: see whether it reads`));
  }
}
