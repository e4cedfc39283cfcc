/**
 * How long a guest is waited for that cannot be told that the input for it has ended: anew with each byte of its own. Its host keeps the end
 * back. Input that the guest does not take is never given up in silence: that is a TIMEOUT.
 *
 *   start(): the input has ended
 *     └─▶ taking ── 'finish': all of it is taken ──▶ quiet ── nothing came for `idleMs` ──▶ onIdle()
 *            └──── nothing was taken for `idleMs` ──▶ onIdle(TIMEOUT)
 */
import type { Duplex } from 'node:stream';
import { FairleadError } from '../shared/errors.ts';
import { unconsumedBytes } from '../shared/node/channel-duplex.ts';

/** For the guest to take its input, where nobody waits for its answer. */
const TAKE_MS = 10_000;

export class IdleTimer {
  readonly #stream: Duplex;
  readonly #idleMs: number;
  readonly #onIdle: (error?: FairleadError) => void;
  #timer: NodeJS.Timeout | undefined;
  #untakenBytes = Number.POSITIVE_INFINITY;

  /** `onIdle`: called once, with the reason when there is input that the guest has not taken. With an `idleMs` of 0 nobody waits for an answer. */
  constructor(stream: Duplex, idleMs: number, onIdle: (error?: FairleadError) => void) {
    this.#stream = stream;
    this.#idleMs = idleMs;
    this.#onIdle = onIdle;
  }

  /** All input has been handed over: its end follows it. */
  start(): void {
    this.#stream.once('finish', () => this.#beQuiet()).end();
    this.#timer = setTimeout(() => this.#look(), this.#takeMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  get #takeMs(): number {
    return this.#idleMs === 0 ? TAKE_MS : this.#idleMs;
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
    this.#onIdle(new FairleadError('TIMEOUT', `${what}: see whether it reads, or give it longer with --idle-timeout`));
  }
}
