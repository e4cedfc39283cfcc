/**
 * The line to the hub, for as long as one command or program wants it. Pure: browsers run it too.
 *
 *     up ── it broke, and `lasting`, or streams are held ──▶ dialling ──▶ up, and the streams go on
 *      │                                                       └── the hub refuses, or nobody waits any more ──▶ lost
 *      └── it ended for good, or nobody waits for another ──▶ lost                           any ── dispose ──▶ lost
 *
 * What is called while it dials waits for the next line; what was pending when the last one broke has failed with INTERRUPTED. Streams
 * wait for their grace (60 s from the break); a lasting line is dialled for longer than that.
 */
import { Backoff } from '../shared/backoff.ts';
import { FairleadError, toFairleadError } from '../shared/errors.ts';
import { isBreak } from '../shared/line/close-codes.ts';
import { HeldStreams } from '../shared/line/held-streams.ts';
import { Line } from '../shared/line/line.ts';
import type { MessageSocket } from '../shared/line/message-socket.ts';
import { CONTRACT_VERSION } from '../shared/protocol/version.ts';
import { pause } from './pause.ts';

/** Milliseconds. Somebody waits at a terminal: rather often than seldom. */
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 2_000;

/** An open WebSocket to the hub. */
export type DialHub = (signal: AbortSignal | undefined) => Promise<MessageSocket>;

export interface HubLineOptions {
  readonly dial: DialHub;
  /** Name and version for the hub's logs, such as `fairlead-cli/0.1.0`. */
  readonly software: string;
  /** Dial again whenever the line breaks, and not only while streams wait for it. */
  readonly lasting: boolean;
  /** Told of each line that is up and of each break. Must not throw. */
  readonly onState?: ((state: HubLineState) => void) | undefined;
}

export type HubLineState = 'up' | 'dialling' | 'lost';

export class HubLine implements AsyncDisposable {
  readonly #options: HubLineOptions;
  readonly #held = new HeldStreams();
  readonly #closing = new AbortController();
  #current: Promise<Line>;
  #up: Line | undefined;

  private constructor(options: HubLineOptions, signal: AbortSignal | undefined) {
    this.#options = options;
    this.#current = this.#open(signal);
  }

  /** @throws what `dial` throws, and what hinders the HELLO */
  static async connect(options: HubLineOptions, signal?: AbortSignal): Promise<HubLine> {
    const line = new HubLine(options, signal);
    await line.#current;
    return line;
  }

  /** Undefined while there is none, or it is not known yet that there is none. */
  get up(): Line | undefined {
    return this.#up;
  }

  /** Disposed of: there will be no other line. */
  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Whether another line comes when this one breaks, streams or not. */
  get isLasting(): boolean {
    return this.#options.lasting;
  }

  /** The line that is up, or the next one. @throws INTERRUPTED when there will be none */
  line(): Promise<Line> {
    return this.#current;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new FairleadError('INTERRUPTED', 'the connection to the hub was closed'));
    const line = await this.#current.catch(() => undefined);
    line?.close();
    await line?.closed;
    this.#held[Symbol.dispose]();
  }

  async #open(signal: AbortSignal | undefined): Promise<Line> {
    const { dial, software } = this.#options;
    const line = new Line({
      socket: await dial(signal),
      role: 'dialer',
      held: this.#held,
      hello: { contract: CONTRACT_VERSION, software, role: 'operator' },
      handlers: {
        onRequest: (method) =>
          Promise.reject(new FairleadError('METHOD_NOT_FOUND', `an operator answers no calls, ${method} neither`)),
      },
    });
    await line.ready;
    this.#up = line;
    void line.closed.then(({ code }) => this.#ended(code));
    this.#tell('up');
    return line;
  }

  #ended(code: number): void {
    this.#up = undefined;
    const isWanted = this.#options.lasting || this.#held.isWaiting;
    if (this.#closing.signal.aborted || !isBreak(code) || !isWanted) return this.#tell('lost');
    this.#current = this.#redial();
    // Whoever needs the line is told; if nobody does, the streams are.
    this.#current.catch(() => this.#tell('lost'));
    this.#tell('dialling');
  }

  async #redial(): Promise<Line> {
    const { signal } = this.#closing;
    const backoff = new Backoff({ baseMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS });
    for (;;) {
      await pause(backoff.failed(), signal);
      try {
        return await this.#open(signal);
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toFairleadError(thrown);
        const isWorthAnother = mayHelp(error);
        if (!isWorthAnother) this.#held.end(error);
        if (isWorthAnother && (this.#options.lasting || this.#held.isWaiting)) continue;
        throw new FairleadError('INTERRUPTED', `the line is gone: ${error.message}`, { cause: error });
      }
    }
  }

  #tell(state: HubLineState): void {
    this.#options.onState?.(state);
  }
}

/** Whether time may: a hub that refuses this operator will do so again. */
function mayHelp({ code }: FairleadError): boolean {
  return code !== 'UNAUTHENTICATED' && code !== 'PERMISSION_DENIED' && code !== 'PROTOCOL_ERROR';
}
