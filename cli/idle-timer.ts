/**
 * How long a guest is waited for that cannot be told that the input for it has ended: anew with each byte of its own, and each time it has
 * taken some of the input. Input that it does not take is never given up in silence: that is a TIMEOUT.
 */
import type { Duplex } from 'node:stream';
import { FairleadError } from '../shared/errors.ts';

export class IdleTimer {
  readonly #stream: Duplex;
  readonly #idleMs: number;
  readonly #onIdle: (error?: FairleadError) => void;
  #timer: NodeJS.Timeout | undefined;
  #unsentBytes = 0;

  /** `onIdle`: called once, with the reason when there is input that the guest has not taken. */
  constructor(stream: Duplex, idleMs: number, onIdle: (error?: FairleadError) => void) {
    this.#stream = stream;
    this.#idleMs = idleMs;
    this.#onIdle = onIdle;
    stream.on('data', () => this.#timer?.refresh());
  }

  /** All input has been handed over. */
  start(): void {
    this.#timer = setTimeout(() => this.#look(), this.#idleMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    const { writableLength } = this.#stream;
    if (writableLength === 0) return this.#onIdle();
    const isStuck = writableLength === this.#unsentBytes;
    this.#unsentBytes = writableLength;
    if (!isStuck) return void this.#timer?.refresh();
    const what = `the guest took no more for ${this.#idleMs} ms, and ${writableLength} bytes of the input are not sent`;
    this.#onIdle(new FairleadError('TIMEOUT', `${what}: see whether it reads, or give it longer with --idle-timeout`));
  }
}
