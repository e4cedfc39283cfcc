/**
 * Commands once, end to end: each is kept before it is sent, has one id for its whole life, goes to one host, and is asked after when a line
 * broke or the hub was started anew. The host's journal sees to it that the same id has one effect.
 */
import type { Cancellation } from '../../shared/cancellation.ts';
import { FairleadError, isFairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { Bus } from '../bus.ts';
import type { CommandBook } from './command-book.ts';
import { CommandRun, type CommandSession } from './command-run.ts';
import { type KeptCommand, keptAnswer, keptCommand, type NewCommand, requireSameCommand } from './kept-command.ts';

export interface CommandsOptions {
  readonly book: CommandBook;
  readonly bus: Bus;
  sessionOf(host: string): CommandSession | undefined;
  /** Why a host cannot be reached. */
  unreachable(host: string): Promise<FairleadError>;
  /** Unix milliseconds. */
  now(): number;
  onFault(error: unknown): void;
}

export class Commands {
  readonly #options: CommandsOptions;
  readonly #running = new Map<string, CommandRun>();
  readonly #waiting = new Map<string, Set<(session: CommandSession) => void>>();
  readonly #subscription: Disposable;

  constructor(options: CommandsOptions) {
    this.#options = options;
    this.#subscription = options.bus.subscribe('host.connected', ({ host }) => this.#wake(host));
  }

  /** Takes up what an earlier life of this hub had not ended. */
  takeUp(): void {
    for (const command of this.#options.book.open()) this.#run(new CommandRun(command, this.#runOptions));
  }

  /** Gives the command and waits for its answer. @throws FairleadError what the host answers; HOST_UNREACHABLE, CONFLICT, INTERRUPTED */
  async call(command: NewCommand, context: RequestContext): Promise<unknown> {
    const started = await this.#start(command, context);
    if ('result' in started) return started.result;
    const { run, isOurs } = started;
    // A line that broke is no reason: whoever comes back with the id is told.
    const leave = () => {
      const { reason } = context.cancellation;
      if (isOurs && isFairleadError(reason) && reason.code !== 'INTERRUPTED') run.stop(reason);
    };
    return await settledOr(run.answered, context.cancellation, leave);
  }

  /** Gives the command and does not wait for its answer; resolves once it is kept. @throws FairleadError HOST_UNREACHABLE, CONFLICT */
  async submit(command: NewCommand): Promise<KeptCommand> {
    const started = await this.#start(command);
    return 'result' in started ? this.get(command.id) : started.run.command;
  }

  /** @throws FairleadError NOT_FOUND */
  get(id: string): KeptCommand {
    const command = this.#running.get(id)?.command ?? this.#options.book.get(id);
    if (command !== undefined) return command;
    throw new FairleadError('NOT_FOUND', `the hub keeps no command ${id}: it was never given here, or has been forgotten`);
  }

  /** Those that have not ended. */
  open(): readonly KeptCommand[] {
    return this.#options.book.open();
  }

  /** The newest first. */
  list(): readonly KeptCommand[] {
    return this.#options.book.all();
  }

  /** The record once it is known what came of it. @throws FairleadError NOT_FOUND, what the cancellation says */
  async wait(id: string, cancellation: Cancellation): Promise<KeptCommand> {
    const run = this.#running.get(id);
    return run === undefined ? this.get(id) : await settledOr(run.ended, cancellation, () => {});
  }

  /** Takes it back, and waits for what came of it. @throws FairleadError NOT_FOUND */
  async cancel(id: string, cancellation: Cancellation): Promise<KeptCommand> {
    this.#running.get(id)?.stop(new FairleadError('CANCELLED', 'it was cancelled'));
    return await this.wait(id, cancellation);
  }

  /** Takes back what waits, and was given with a token that is worthless now. */
  cancelQueuedOf(actor: string): void {
    for (const run of this.#running.values()) {
      const { state, actor: by } = run.command;
      if (by === actor && state === 'queued') run.stop(new FairleadError('CANCELLED', `token ${actor} was revoked`));
    }
  }

  /** Leaves all to the next life of the hub. */
  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
  }

  async #start(
    command: NewCommand,
    context?: RequestContext,
  ): Promise<{ readonly run: CommandRun; readonly isOurs: boolean } | { readonly result: unknown }> {
    const { book, sessionOf, unreachable, now } = this.#options;
    const running = this.#running.get(command.id);
    const known = running?.command ?? book.get(command.id);
    if (known !== undefined) requireSameCommand(known, command);
    if (running !== undefined) return { run: running, isOurs: false };
    const answer = known === undefined ? undefined : keptAnswer(known);
    if (answer !== undefined) return answer;
    const isConnected = sessionOf(command.host) !== undefined;
    if (!isConnected && command.whenOffline === 'fail') throw await unreachable(command.host);
    const kept = keptCommand(command, isConnected ? 'sent' : 'queued', now());
    const run = new CommandRun(kept, this.#runOptions, { isFresh: true, ...(context === undefined ? {} : { context }) });
    // Before anything is awaited, so that of two calls with one id the second sees the first.
    this.#running.set(command.id, run);
    try {
      await book.add(kept);
    } catch (error) {
      this.#running.delete(command.id);
      throw error;
    }
    this.#run(run);
    return { run, isOurs: true };
  }

  #run(run: CommandRun): void {
    const { bus } = this.#options;
    const { id } = run;
    const { host, method } = run.command;
    this.#running.set(id, run);
    bus.publish('command.begun', { host, id, method });
    void run.run().then(() => {
      this.#running.delete(id);
      bus.publish('command.ended', { host, id });
    });
  }

  get #runOptions() {
    const { book, now, onFault } = this.#options;
    return { book, now, onFault, session: (host: string, until: Cancellation) => this.#session(host, until) };
  }

  async #session(host: string, until: Cancellation): Promise<CommandSession> {
    if (until.aborted) throw until.reason;
    const session = this.#options.sessionOf(host);
    if (session !== undefined && !session.peer.closed) return session;
    const { promise, resolve } = Promise.withResolvers<CommandSession>();
    const ofHost = this.#waiting.get(host) ?? new Set();
    this.#waiting.set(host, ofHost.add(resolve));
    try {
      return await settledOr(promise, until, () => {});
    } finally {
      ofHost.delete(resolve);
      if (ofHost.size === 0) this.#waiting.delete(host);
    }
  }

  #wake(host: string): void {
    const session = this.#options.sessionOf(host);
    if (session === undefined) return;
    for (const resolve of this.#waiting.get(host) ?? []) resolve(session);
  }
}

/** What `promise` settles with, or the reason of the cancellation, whichever comes first. `onAbort` is called before that. */
async function settledOr<T>(promise: Promise<T>, cancellation: Cancellation, onAbort: () => void): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => {
    onAbort();
    reject(cancellation.reason);
  };
  if (cancellation.aborted) abort();
  else cancellation.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    cancellation.removeEventListener('abort', abort);
  }
}
