/**
 * The operator's line to the hub, for as long as one command or program wants it.
 *
 *     up ── it broke, and streams are held ──▶ dialling ──▶ up, and the streams go on
 *      │                                          └── their grace is over, or the hub refuses ──▶ lost
 *      └── it ended for good, or no stream is held ──▶ lost                    any ── close ──▶ lost
 *
 * What is called while it dials waits for the next line; what was pending when the last one broke has failed with INTERRUPTED.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '../shared/backoff.ts';
import { FairleadError, toFairleadError } from '../shared/errors.ts';
import { isBreak } from '../shared/line/close-codes.ts';
import { HeldStreams } from '../shared/line/held-streams.ts';
import { Line } from '../shared/line/line.ts';
import type { MessageSocket } from '../shared/line/message-socket.ts';
import { VERSION } from '../shared/node/version.ts';
import { CONTRACT_VERSION } from '../shared/protocol/version.ts';

/** Milliseconds. Somebody waits at a terminal: rather often than seldom. */
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 2_000;

/** An open WebSocket to the hub. */
export type DialHub = (signal: AbortSignal | undefined) => Promise<MessageSocket>;

export class OperatorLine implements AsyncDisposable {
  readonly #dial: DialHub;
  readonly #held = new HeldStreams();
  readonly #closing = new AbortController();
  #current: Promise<Line>;

  private constructor(dial: DialHub, signal: AbortSignal | undefined) {
    this.#dial = dial;
    this.#current = this.#open(signal);
  }

  /** @throws what `dial` throws, and what hinders the HELLO */
  static async connect(dial: DialHub, signal?: AbortSignal): Promise<OperatorLine> {
    const line = new OperatorLine(dial, signal);
    await line.#current;
    return line;
  }

  /** The line that is up, or the next one. @throws INTERRUPTED when there will be none */
  line(): Promise<Line> {
    return this.#current;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new FairleadError('CANCELLED', 'the connection is being closed'));
    const line = await this.#current.catch(() => undefined);
    line?.close();
    await line?.closed;
    this.#held[Symbol.dispose]();
  }

  async #open(signal: AbortSignal | undefined): Promise<Line> {
    const line = new Line({
      socket: await this.#dial(signal),
      role: 'dialer',
      held: this.#held,
      hello: { contract: CONTRACT_VERSION, software: `fairlead-cli/${VERSION}`, role: 'operator' },
      handlers: {
        onRequest: (method) =>
          Promise.reject(new FairleadError('METHOD_NOT_FOUND', `an operator answers no calls, ${method} neither`)),
      },
    });
    await line.ready;
    void line.closed.then(({ code }) => this.#ended(code));
    return line;
  }

  #ended(code: number): void {
    if (this.#closing.signal.aborted || !isBreak(code) || !this.#held.isWaiting) return;
    this.#current = this.#redial();
    // Whoever needs the line is told; if nobody does, the streams are.
    this.#current.catch(() => {});
  }

  async #redial(): Promise<Line> {
    const { signal } = this.#closing;
    const backoff = new Backoff({ baseMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS });
    for (;;) {
      await sleep(backoff.failed(), undefined, { signal });
      try {
        return await this.#open(signal);
      } catch (thrown) {
        const error = toFairleadError(thrown);
        if (!isWorthAnother(error)) this.#held.end(error);
        if (!this.#held.isWaiting) throw new FairleadError('INTERRUPTED', `the line is gone: ${error.message}`, { cause: error });
      }
    }
  }
}

/** Whether time may help: a hub that refuses this operator will do so again. */
function isWorthAnother({ code }: FairleadError): boolean {
  return code !== 'UNAUTHENTICATED' && code !== 'PERMISSION_DENIED' && code !== 'PROTOCOL_ERROR';
}
