/**
 * The commands of one session between `execute` and their reply. Knows nothing of sockets: it is given `write` and told of replies.
 *
 *     submit ──▶ waiting ──▶ sent ──▶ answered
 *                   │          └────▶ given up (timeout, cancel) ──▶ its late reply is dropped
 *                   └─▶ given up: never sent
 *
 * At most 8 in-band commands are sent and unanswered, because that is how many QEMU queues with out-of-band enabled: with more it stops
 * reading, and an out-of-band command would be stuck behind them (QEMU `QMP_REQ_QUEUE_LEN_MAX`; QMP specification, "Out-of-band
 * execution"). A command that was sent keeps its place when it is given up, since QEMU still has it to answer.
 *
 * Every promise settles: by a reply, its deadline, its signal, or `interrupt`.
 */
import { systemClock } from '../../shared/clock.ts';
import { Deadlines } from '../../shared/deadlines.ts';
import { type FairleadError, toFairleadError } from '../../shared/errors.ts';
import {
  type CommandFacts,
  commandCancelled,
  commandFailed,
  commandInterrupted,
  commandTimedOut,
  notSerializable,
} from './errors.ts';
import type { QmpErrorObject } from './messages.ts';
import type { ExecuteOptions, QmpObserver } from './options.ts';
import { clampTimerMs } from './timer.ts';

export const MAX_IN_FLIGHT = 8;

export interface PipelineOptions {
  readonly monitor: string;
  readonly commandTimeoutMs: number;
  /** Told of each command that settles. Never throws. */
  readonly onCommand: NonNullable<QmpObserver['onCommand']>;
  /** Takes one whole command, and the descriptors that go with it. Throws only where these cannot be passed; then it took nothing. */
  readonly write: (text: string, fds: readonly number[]) => void;
}

export type Reply =
  | { readonly kind: 'return'; readonly value: unknown }
  | { readonly kind: 'error'; readonly error: QmpErrorObject };

interface Pending {
  readonly id: number;
  readonly command: string;
  readonly text: string;
  readonly fds: readonly number[];
  readonly oob: boolean;
  readonly submittedAt: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: FairleadError) => void;
  state: 'waiting' | 'sent' | 'settled';
  /** Undoes the deadline and the signal. */
  release: () => void;
}

export class CommandPipeline {
  readonly #options: PipelineOptions;
  /** In order of submission. Sets, because any may be given up at any time. */
  readonly #waiting = new Set<Pending>();
  /** All that QEMU has to answer, by id, those given up included. */
  readonly #unanswered = new Map<number, Pending>();
  readonly #deadlines = new Deadlines(systemClock);
  #interruption: FairleadError | undefined;
  #inBand = 0;
  /** QEMU reads its monitor byte by byte, at some microseconds each, so commands are short: an id is used again once QEMU has answered it. */
  readonly #freeIds: number[] = [];
  #highestId = 0;
  #commands = 0;
  #failures = 0;

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  get commands(): number {
    return this.#commands;
  }

  get failures(): number {
    return this.#failures;
  }

  submit(command: string, args: object | undefined, options: ExecuteOptions): Promise<unknown> {
    const { timeoutMs = this.#options.commandTimeoutMs, oob = false, fds = [], signal } = options;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const submittedAt = performance.now();
    const id = this.#freeIds.pop() ?? ++this.#highestId;
    let text: string;
    try {
      const sent = isEmpty(args) ? undefined : args;
      text = `${JSON.stringify(oob ? { 'exec-oob': command, arguments: sent, id } : { execute: command, arguments: sent, id })}\n`;
    } catch (cause) {
      this.#freeIds.push(id);
      reject(notSerializable({ command, monitor: this.#options.monitor, sent: false }, cause));
      return promise;
    }
    const pending: Pending = { id, command, text, fds, oob, submittedAt, resolve, reject, state: 'waiting', release: () => {} };
    if (this.#interruption !== undefined) {
      this.#reject(pending, commandInterrupted(this.#facts(pending), this.#interruption));
      return promise;
    }
    if (signal?.aborted === true) {
      this.#reject(pending, commandCancelled(this.#facts(pending), signal.reason));
      return promise;
    }
    const deadline = this.#deadlines.set(systemClock.now() + clampTimerMs(timeoutMs), () =>
      this.#giveUp(pending, commandTimedOut(this.#facts(pending), timeoutMs)),
    );
    const onAbort = (): void => this.#giveUp(pending, commandCancelled(this.#facts(pending), signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    pending.release = () => {
      this.#deadlines.strike(deadline);
      signal?.removeEventListener('abort', onAbort);
    };
    if (oob) {
      this.#send(pending);
    } else {
      this.#waiting.add(pending);
      this.#pump();
    }
    return promise;
  }

  /** What became of a reply: `late` when its command had been given up, `unknown` when no such id is unanswered. */
  answer(id: number, reply: Reply): 'delivered' | 'late' | 'unknown' {
    const pending = this.#unanswered.get(id);
    if (pending === undefined) return 'unknown';
    this.#unanswered.delete(id);
    this.#freeIds.push(id);
    if (!pending.oob) {
      this.#inBand--;
      this.#pump();
    }
    if (pending.state === 'settled') return 'late';
    if (reply.kind === 'return') this.#resolve(pending, reply.value);
    else this.#reject(pending, commandFailed(this.#facts(pending), reply.error));
    return 'delivered';
  }

  /** The session is over: all that is pending is rejected, and so is what is submitted later. */
  interrupt(cause: FairleadError): void {
    this.#interruption = cause;
    this.#deadlines.stop();
    const open = [...this.#unanswered.values(), ...this.#waiting];
    this.#unanswered.clear();
    this.#waiting.clear();
    for (const pending of open) {
      if (pending.state !== 'settled') this.#reject(pending, commandInterrupted(this.#facts(pending), cause));
    }
  }

  #pump(): void {
    for (const pending of this.#waiting) {
      if (this.#inBand >= MAX_IN_FLIGHT) return;
      this.#waiting.delete(pending);
      this.#inBand++;
      this.#send(pending);
    }
  }

  #send(pending: Pending): void {
    pending.state = 'sent';
    this.#unanswered.set(pending.id, pending);
    try {
      this.#options.write(pending.text, pending.fds);
    } catch (thrown) {
      this.#takeBack(pending, toFairleadError(thrown));
    }
  }

  /** What was not taken has no answer to wait for. Those that wait for its place are sent in a turn of their own. */
  #takeBack(pending: Pending, error: FairleadError): void {
    this.#unanswered.delete(pending.id);
    this.#freeIds.push(pending.id);
    this.#reject(pending, error);
    if (pending.oob) return;
    this.#inBand--;
    queueMicrotask(() => this.#pump());
  }

  #giveUp(pending: Pending, error: FairleadError): void {
    // Never sent, so nobody will answer it.
    if (this.#waiting.delete(pending)) this.#freeIds.push(pending.id);
    this.#reject(pending, error);
  }

  #resolve(pending: Pending, value: unknown): void {
    pending.resolve(value);
    this.#settled(pending, true);
  }

  #reject(pending: Pending, error: FairleadError): void {
    this.#failures++;
    pending.reject(error);
    this.#settled(pending, false);
  }

  #settled(pending: Pending, ok: boolean): void {
    pending.state = 'settled';
    pending.release();
    this.#commands++;
    this.#options.onCommand({ command: pending.command, ok, durationMs: performance.now() - pending.submittedAt });
  }

  #facts(pending: Pending): CommandFacts {
    return { command: pending.command, monitor: this.#options.monitor, sent: pending.state === 'sent' };
  }
}

function isEmpty(args: object | undefined): boolean {
  return args !== undefined && Object.keys(args).length === 0;
}
