/**
 * One command on its way: sent when its host has a line, asked after when the line broke, until it is known what came of it.
 *
 *     waiting ──line──▶ asking (sent before) ──host does not have it──▶ sending ──answer──▶ ended
 *        ▲                 └──host tells its end──▶ ended                   │
 *        └───────────────────── the line broke ────────────────────────────┘
 *
 * `stop` (cancelled, its time is over) and a broken line where its caller does not want to wait turn it to settling: from then on it is
 * asked after and not sent to a host that never had it. What the host says counts, also against what was asked of it.
 */
import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import * as v from 'valibot';
import { type Cancellation, CancelSource } from '../../shared/cancellation.ts';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { CommandBook } from './command-book.ts';
import { endedCommand, errorOf, type KeptCommand, type Outcome } from './kept-command.ts';

export interface CommandSession {
  readonly peer: JsonRpcPeer;
}

export interface CommandRunOptions {
  readonly book: CommandBook;
  /** The host's session: the one there is, or the next one. Rejects with the signal's reason. */
  session(host: string, until: Cancellation): Promise<CommandSession>;
  /** Unix milliseconds. */
  now(): number;
  onFault(error: unknown): void;
}

/** What is needed of a host's record of a command. */
const HostOperation = v.object({
  state: v.string(),
  result: v.optional(v.unknown()),
  resultOmitted: v.optional(v.unknown()),
  error: v.optional(v.object({ code: v.string(), message: v.string(), details: v.optional(v.record(v.string(), v.unknown())) })),
  reconciled: v.optional(v.object({ outcome: v.string() })),
});

/** For a host that was asked to stop a command, to say how it ended. */
const JOIN_MS = 60_000;
const PAUSE_MS = 1000;
/** A host forgets commands after a day, and so do we. */
const SETTLE_MS = 24 * 3600 * 1000;

type HostSays = 'not-there' | 'running' | Outcome;

export class CommandRun {
  readonly id: string;
  readonly #options: CommandRunOptions;
  readonly #context: RequestContext | undefined;
  #command: KeptCommand;
  /** Kept as sent, and not sent yet. */
  #isFresh: boolean;
  /** Why it is not to be sent any more. */
  #stopped: FairleadError | undefined;
  readonly #stop = new CancelSource();
  readonly #answered = Promise.withResolvers<unknown>();
  readonly #ended = Promise.withResolvers<KeptCommand>();
  #expiry: NodeJS.Timeout | undefined;
  /** Its deadline, by a clock that nobody sets: what the record says of it counts when it is taken up. Infinity for none. */
  readonly #endsAtMs: number;

  /** `context` is that of the call that gave it, if there is one: for progress and trace. `isFresh`: it was given just now. */
  constructor(
    command: KeptCommand,
    options: CommandRunOptions,
    { context, isFresh = false }: { context?: RequestContext; isFresh?: boolean } = {},
  ) {
    this.id = command.id;
    this.#command = command;
    this.#options = options;
    this.#context = context;
    this.#isFresh = isFresh && command.state === 'sent';
    this.#endsAtMs = performance.now() + ((command.expiresAtMs ?? Number.POSITIVE_INFINITY) - options.now());
    this.#answered.promise.catch(() => {});
    if (command.state === 'settling') this.#stopped = interrupted(command);
  }

  get command(): KeptCommand {
    return this.#command;
  }

  /** What callers are told: sooner than `ended` when they do not wait for a host that dropped away. */
  get answered(): Promise<unknown> {
    return this.#answered.promise;
  }

  /** The record once it is known what came of it. Never rejects. */
  get ended(): Promise<KeptCommand> {
    return this.#ended.promise;
  }

  /** Not to be sent any more; told to stop where it runs. The first reason counts. */
  stop(reason: FairleadError): void {
    this.#stopped ??= reason;
    this.#stop.abort(this.#stopped);
  }

  /** Runs it to its end; never rejects. */
  async run(): Promise<void> {
    this.#watchTime();
    let outcome: Outcome;
    try {
      outcome = await this.#perform();
    } catch (error) {
      outcome = { error };
    }
    clearTimeout(this.#expiry);
    this.#command = endedCommand(this.#command, outcome, this.#options.now());
    // Not waited for: were it lost, the host is asked again.
    this.#options.book.change(this.#command).catch(this.#options.onFault);
    if ('error' in outcome) this.#answered.reject(outcome.error);
    else this.#answered.resolve(outcome.result);
    this.#ended.resolve(this.#command);
  }

  async #perform(): Promise<Outcome> {
    for (;;) {
      const session = await this.#nextSession();
      if (session === undefined) return { error: this.#neverRun() };
      try {
        const says = this.#isUnsent ? 'not-there' : await this.#ask(session);
        if (typeof says === 'object') return says;
        if (this.#stopped !== undefined && says === 'not-there') return { error: this.#neverRun() };
        return { result: await this.#send(session) };
      } catch (error) {
        if (!this.#isOpen(error, session)) return { error };
        const waits = this.#command.whenOffline === 'queue' && toFairleadError(error).code === 'INTERRUPTED';
        if (!waits) this.#stopped ??= toFairleadError(error);
        if (this.#stopped !== undefined) await this.#settleLater(this.#stopped);
        // A host that is about to leave says so before its line is gone.
        if (!session.peer.closed) await setTimeoutAsync(PAUSE_MS, undefined, { ref: false });
      }
    }
  }

  /** Undefined when there is none any more and the host never had the command. @throws FairleadError OUTCOME_UNKNOWN */
  async #nextSession(): Promise<CommandSession | undefined> {
    const { host, createdAtMs, id, method } = this.#command;
    if (this.#stopped === undefined) {
      try {
        return await this.#options.session(host, this.#stop);
      } catch {
        return await this.#nextSession();
      }
    }
    if (this.#isUnsent) return undefined;
    const patience = new CancelSource();
    const leftMs = Math.max(0, createdAtMs + SETTLE_MS - this.#options.now());
    const timer = setTimeout(() => patience.abort(new FairleadError('TIMEOUT', 'a day is over')), leftMs);
    timer.unref();
    try {
      return await this.#options.session(host, patience);
    } catch (cause) {
      const message = `host ${host} did not come back for a day after it was sent ${method} (command ${id}), so that nobody knows whether it ran: look, once it is back`;
      throw new FairleadError('OUTCOME_UNKNOWN', message, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  /** What became of it on the host. */
  async #ask({ peer }: CommandSession): Promise<HostSays> {
    let answer: unknown;
    try {
      answer = await peer.call('op.get', { id: this.id }, { timeoutMs: JOIN_MS });
    } catch (error) {
      const { code, message } = toFairleadError(error);
      if (code === 'NOT_FOUND') return 'not-there';
      if (code === 'INTERRUPTED' || code === 'TIMEOUT') throw error;
      const { method, host } = this.#command;
      throw new FairleadError(
        'OUTCOME_UNKNOWN',
        `host ${host} cannot tell what became of ${method} (command ${this.id}): ${message}`,
      );
    }
    const { state, result, resultOmitted, error, reconciled } = v.parse(HostOperation, answer);
    if (reconciled?.outcome === 'not-done') return 'not-there';
    if (state === 'accepted' || state === 'running') return 'running';
    // What was too long to be kept has happened all the same: the host says so itself when it is sent again.
    if (state === 'done') return resultOmitted === undefined ? { result } : 'running';
    return { error: errorOf({ ...this.#command, error }) };
  }

  /** To a host that has the command this is a repeat: it waits for its end, or is told it. */
  async #send({ peer }: CommandSession): Promise<unknown> {
    const { id, method, actor, params } = this.#command;
    if (this.#isFresh) {
      this.#isFresh = false;
    } else if (this.#stopped === undefined) {
      this.#command = { ...this.#command, state: 'sent', sends: this.#command.sends + 1 };
      await this.#options.book.change(this.#command);
    }
    const context = this.#context;
    const isStopped = this.#stopped !== undefined;
    return await peer.call(method, params ?? {}, {
      timeoutMs: isStopped ? JOIN_MS : this.#remainingMs(),
      meta: { commandId: id, actor },
      ...(isStopped ? {} : { signal: this.#stop }),
      ...(context?.wantsProgress === true ? { onProgress: context.progress } : {}),
      ...(context === undefined ? {} : { trace: context.trace }),
    });
  }

  /** At least 1, for 0 would lift the deadline. */
  #remainingMs(): number {
    return this.#endsAtMs === Number.POSITIVE_INFINITY ? 0 : Math.max(1, this.#endsAtMs - performance.now());
  }

  /** Its callers are told why; what came of it is found out without them. */
  async #settleLater(reason: FairleadError): Promise<void> {
    this.#answered.reject(reason);
    if (this.#command.state === 'settling') return;
    this.#command = { ...this.#command, state: 'settling' };
    await this.#options.book.change(this.#command).catch(this.#options.onFault);
  }

  get #isUnsent(): boolean {
    return this.#command.sends === 0 || this.#isFresh;
  }

  /** Whether the error says nothing of the command itself: the line went, or we gave up waiting. */
  #isOpen(error: unknown, { peer }: CommandSession): boolean {
    const { code } = toFairleadError(error);
    if (code === 'INTERRUPTED') return peer.closed || this.#command.whenOffline === 'queue' || this.#stopped !== undefined;
    return (error === this.#stopped || code === 'TIMEOUT' || code === 'CANCELLED') && !this.#isUnsent;
  }

  #neverRun(): FairleadError {
    const { code, message } = this.#stopped ?? interrupted(this.#command);
    const { method, id, host } = this.#command;
    return new FairleadError(code, `${method} (command ${id}) was not run on host ${host}: ${message}`);
  }

  #watchTime(): void {
    if (this.#endsAtMs === Number.POSITIVE_INFINITY) return;
    const { method } = this.#command;
    const leftMs = Math.max(0, this.#endsAtMs - performance.now());
    this.#expiry = setTimeout(() => this.stop(new FairleadError('TIMEOUT', `${method} did not end within its deadline`)), leftMs);
    this.#expiry.unref();
  }
}

function interrupted({ method }: KeptCommand): FairleadError {
  return new FairleadError('INTERRUPTED', `the line to the host dropped while ${method} ran`);
}
