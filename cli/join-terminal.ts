/**
 * Standard input and output joined to a stream, for one command's life. Nothing of either direction is dropped without an error:
 *
 *   both open ── the input ends, and is passed on ──▶ the guest's turn ── its end ──▶ over, once it has taken all input
 *        └─────── the guest ends ──▶ the input's turn ── its end ──────────────────────▲
 *
 * The guest's turn is bounded where it cannot be told of the input's end (IdleTimer). The input's turn is over at once at a terminal, whose
 * user waits for the prompt; a file goes on to its end; and what else writes here may pause for `inputIdleMs`, and its next write fails.
 * What had been read by then is still given to the guest, for as long as it takes any of it.
 */
import { ReadStream } from 'node:fs';
import type { Duplex } from 'node:stream';
import { FairleadError } from '../shared/errors.ts';
import type { App } from './app.ts';
import { isTerminal } from './guest-text.ts';
import { IdleTimer } from './idle-timer.ts';

export interface TerminalTurns {
  /** Of a guest that cannot be told that the input has ended; 0: nobody waits for its answer. */
  readonly guestIdleMs?: number | undefined;
  readonly inputIdleMs: number;
  /** As in IdleTimes. */
  readonly takeMs?: number | undefined;
}

/** Settles when both have ended and everything the guest sent is written out; rejects when the stream is reset, or the command interrupted. */
export async function joinTerminal(app: App, stream: Duplex, turns: TerminalTurns): Promise<void> {
  const { guestIdleMs, inputIdleMs, takeMs } = turns;
  const { stdin, stdout } = app.streams;
  const over = Promise.withResolvers<void>();
  const onIdle = (error?: FairleadError): void => (error === undefined ? over.resolve() : over.reject(error));
  const guestTurn = guestIdleMs === undefined ? undefined : new IdleTimer(stream, { idleMs: guestIdleMs, takeMs }, onIdle);
  const lastTurn = new IdleTimer(stream, { idleMs: 0, takeMs }, onIdle);
  const inputTurn = new InputTurn(stdin, stream, { idleMs: inputIdleMs, onOver: () => lastTurn.start() });
  const abort = (): void => over.reject(new FairleadError('CANCELLED', 'the connection was interrupted'));

  stream.on('error', over.reject);
  stdout.on('error', over.reject);
  stream.on('close', () => over.resolve());
  stream.once('end', () => inputTurn.start());
  stream.pipe(stdout, { end: false });
  stdin.pipe(stream, { end: false });
  stdin.once('end', () => {
    if (guestTurn === undefined || stream.readableEnded) stream.end();
    else guestTurn.start();
  });
  app.signal.addEventListener('abort', abort, { once: true });
  try {
    await over.promise;
  } finally {
    guestTurn?.stop();
    inputTurn.stop();
    lastTurn.stop();
    app.signal.removeEventListener('abort', abort);
    stdin.unpipe(stream);
    stream.unpipe(stdout);
    stdin.pause();
    stream.destroy();
  }
}

/** How long input is taken after the guest has ended. */
class InputTurn {
  readonly #stdin: NodeJS.ReadableStream;
  readonly #stream: Duplex;
  readonly #idleMs: number;
  readonly #onOver: () => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(stdin: NodeJS.ReadableStream, stream: Duplex, { idleMs, onOver }: { idleMs: number; onOver: () => void }) {
    this.#stdin = stdin;
    this.#stream = stream;
    this.#idleMs = idleMs;
    this.#onOver = onOver;
  }

  start(): void {
    if (this.#stream.writableEnded || this.#stdin instanceof ReadStream) return;
    if (isTerminal(this.#stdin) || this.#idleMs === 0) return this.#end();
    this.#timer = setTimeout(() => this.#look(), this.#idleMs);
    this.#stdin.on('data', () => this.#timer?.refresh());
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Where some of it waits, it is the guest that is waited for. */
  #look(): void {
    if (this.#stream.writableEnded) return;
    if (this.#stream.writableLength > 0) this.#timer?.refresh();
    else this.#end();
  }

  #end(): void {
    this.#stdin.unpipe(this.#stream);
    this.#onOver();
  }
}
