/**
 * Commands happen once. A call that changes something has a command id; its record is durable before it runs and again before it is
 * answered, and whoever sends the same id again gets that answer instead of a second effect:
 *
 *     the id is            and the repeat
 *     not known            runs
 *     running              waits for its end, and gets its answer
 *     done, or failed      gets the answer that is kept
 *     not done (a crash)   runs
 *     unknown (a crash)    gets OUTCOME_UNKNOWN, and never runs
 *     of other params      gets CONFLICT
 *     gone before its day  gets OUTCOME_UNKNOWN (damage, a full journal), and never runs
 *
 * A command that hands the host over to another agent (HandOver) stays open in the journal, and that one ends it.
 *
 * What a crash interrupted is settled before anything else happens to its VM; other VMs do not wait for that. What cannot be written to
 * the journal does not run.
 */
import * as v from 'valibot';
import { newCommandId, withCommandId } from '../../shared/command-id.ts';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { Fence } from '../../shared/protocol/fence.ts';
import { Actor, CommandId, type Operation } from '../../shared/protocol/methods-operation.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { failpoint } from '../failpoint.ts';
import type { Absence } from '../journal/gone.ts';
import type { OperationPage, OperationQuery } from '../journal/page.ts';
import { orAborted } from '../vm/deadline.ts';
import { HandOver } from './hand-over.ts';
import { InterruptedCommands, type InterruptedOptions } from './interrupted-commands.ts';
import {
  acceptedOperation,
  answerOf,
  type Command,
  digestOf,
  endedOperation,
  type Outcome,
  type VmBrief,
} from './operation-record.ts';
import { RunningCommand } from './running-command.ts';

export interface OnceOptions extends InterruptedOptions {
  readonly host: string;
  /** Asked of a command that carries a fence. @throws FairleadError FENCED, JOURNAL_FAILED */
  readonly admit?: ((fence: Fence) => Promise<void>) | undefined;
  /** Told of each command for a VM that carries a fence: it runs until that is disposed. */
  readonly take?: ((vm: string) => Disposable) | undefined;
}

/** The command itself: what it throws is its failure. */
export type Run = (limits: { commandId: string; signal: AbortSignal; timeoutMs: number | undefined }) => Promise<unknown>;

interface Running {
  readonly command: RunningCommand;
  readonly outcome: Promise<unknown>;
}

const ABSENCES: Readonly<Record<Absence, string>> = {
  damage: 'was damaged and has lost commands of its time',
  'lack-of-room': 'was full and has forgotten commands of its time',
};

const CommandMeta = v.looseObject({ commandId: v.optional(CommandId), actor: v.optional(Actor), fence: v.optional(Fence) });

export class Once {
  readonly #options: OnceOptions;
  readonly #interrupted: InterruptedCommands;
  readonly #running = new Map<string, Running>();
  /** Ended, but the journal could not be told yet. As many as ran when it broke, since nothing is accepted then. */
  readonly #unsaved = new Map<string, Operation>();
  #closed: FairleadError | undefined;

  constructor(options: OnceOptions) {
    this.#options = options;
    this.#interrupted = new InterruptedCommands(options);
  }

  /**
   * Settles all that a crash interrupted. Every command does so for its own VM, so that this need not be waited for.
   * @throws FairleadError JOURNAL_FAILED; the next call tries again.
   */
  prepare(): Promise<void> {
    return this.#interrupted.settle();
  }

  /**
   * @throws FairleadError what the command throws, with its `commandId` in the details; CONFLICT, OUTCOME_UNKNOWN, RESULT_NOT_KEPT of a
   * repeat; LIMIT_EXCEEDED or JOURNAL_FAILED when it was not run; INVALID_PARAMS for a malformed id.
   */
  async run(method: string, params: JsonObject, context: RequestContext, run: Run): Promise<unknown> {
    const { commandId, actor, fence } = parseWith(CommandMeta, context.meta, 'params._meta');
    if (fence !== undefined) await this.#options.admit?.(fence);
    const vm = fence === undefined ? undefined : vmOf(params);
    using _ = vm === undefined ? undefined : this.#options.take?.(vm);
    const command: Command = { id: commandId ?? newCommandId(), method, params, paramsDigest: digestOf(params), actor };
    const running = this.#running.get(command.id);
    try {
      return await (running === undefined ? this.#begin(command, context, run) : join(running, command, context));
    } catch (error) {
      throw withCommandId(error, command.id);
    }
  }

  /** The record of a command; of one that a crash interrupted, once it is known what became of it. @throws FairleadError JOURNAL_FAILED */
  async find(id: string): Promise<Operation | undefined> {
    await this.#interrupted.settleFor({ id });
    return this.#unsaved.get(id) ?? (await this.#options.journal.find(id));
  }

  /** @throws FairleadError JOURNAL_FAILED */
  list(query: OperationQuery): Promise<OperationPage> {
    return this.#options.journal.list(query);
  }

  /** Aborts what runs and waits for its records. */
  async close(): Promise<void> {
    this.#closed = new FairleadError('INTERRUPTED', 'the agent is stopping');
    for (const { command } of this.#running.values()) command.abort(this.#closed);
    await Promise.allSettled([...this.#running.values()].map(({ outcome }) => outcome));
    await this.#options.journal.close();
  }

  /** From here to the entry in `#running` nothing is awaited, so that of two calls with one id the second always sees the first. */
  #begin(command: Command, context: RequestContext, run: Run): Promise<unknown> {
    const running = new RunningCommand(command, context);
    const outcome = this.#perform(command, running, context, run).finally(() => {
      this.#running.delete(command.id);
      running[Symbol.dispose]();
    });
    this.#running.set(command.id, { command: running, outcome });
    return outcome;
  }

  async #perform(command: Command, running: RunningCommand, context: RequestContext, run: Run): Promise<unknown> {
    using _ = running.attach(context, { decides: true });
    if (this.#closed !== undefined) throw this.#closed;
    await this.#interrupted.settleFor({ id: command.id, vm: vmOf(command.params) });
    const known = await this.#known(command);
    const answer = known === undefined ? undefined : answerOf(known);
    if (answer !== undefined) return settle(answer);
    await this.#requireNeverRun(command, known);
    running.signal.throwIfAborted();

    const accepted = this.#accepted(command, known);
    const { journal } = this.#options;
    await journal.accept(accepted);
    await failpoint('journal.accepted');
    journal.markRunning(command.id);
    const { id: commandId } = command;
    const outcome = await outcomeOf(() => run({ commandId, signal: running.signal, timeoutMs: context.remainingMs() }));
    if ('error' in outcome && outcome.error instanceof HandOver) {
      // A repeat is for the next agent, too.
      this.#closed ??= outcome.error;
      throw outcome.error;
    }
    await failpoint('journal.done');
    await this.#finish(endedOperation(accepted, outcome, { at: now(), after: this.#look(accepted.vm) }));
    await failpoint('journal.finished');
    return settle(outcome);
  }

  /** The record of an earlier call with this id. @throws FairleadError CONFLICT */
  async #known(command: Command): Promise<Operation | undefined> {
    const unsaved = this.#unsaved.get(command.id);
    const known = unsaved ?? (await this.#options.journal.find(command.id));
    if (known !== undefined) requireSame(known, command);
    if (unsaved !== undefined) await this.#finish(unsaved);
    return known;
  }

  /** @throws FairleadError OUTCOME_UNKNOWN */
  async #requireNeverRun({ id }: Command, known: Operation | undefined): Promise<void> {
    const asOfMs = known?.endedAt === undefined ? undefined : Date.parse(known.endedAt);
    const absence = await this.#options.journal.absenceOf(id, asOfMs);
    if (absence === undefined) return;
    throw new FairleadError(
      'OUTCOME_UNKNOWN',
      `the journal of this host ${ABSENCES[absence]}, so whether ${id} ran before cannot be told: look, and send it with a new command id if it is still wanted`,
    );
  }

  #accepted(command: Command, known: Operation | undefined): Operation {
    const vm = vmOf(command.params);
    const attempts = (known?.attempts ?? 0) + 1;
    const { host } = this.#options;
    return acceptedOperation(command, { host, at: now(), attempts, vm, before: this.#look(vm) });
  }

  async #finish(ended: Operation): Promise<void> {
    try {
      await this.#options.journal.finish(ended);
      this.#unsaved.delete(ended.id);
    } catch (error) {
      this.#unsaved.set(ended.id, ended);
      const { message } = toFairleadError(error);
      throw new FairleadError(
        'JOURNAL_FAILED',
        `${ended.method} has ended (${ended.state}), but that could not be written down: ${message}; repeat command ${ended.id} to be told how`,
        { cause: error },
      );
    }
  }

  #look(vm: string | undefined): VmBrief | undefined {
    return vm === undefined ? undefined : this.#options.look(vm);
  }
}

/** A repeat of what runs: it can leave, and the command goes on as long as somebody waits for it. */
async function join({ command, outcome }: Running, repeat: Command, context: RequestContext): Promise<unknown> {
  requireSame({ id: repeat.id, method: command.method, paramsDigest: command.paramsDigest }, repeat);
  using _ = command.attach(context, { decides: false });
  return await orAborted(outcome, context.signal);
}

/** @throws FairleadError CONFLICT */
function requireSame(
  { id, method, paramsDigest }: Pick<Operation, 'id' | 'method' | 'paramsDigest'>,
  repeat: Pick<Command, 'method' | 'paramsDigest'>,
): void {
  if (method === repeat.method && paramsDigest === repeat.paramsDigest) return;
  throw new FairleadError(
    'CONFLICT',
    `command id ${id} was given to ${method} with params of digest ${paramsDigest}, and now to ${repeat.method} with ${repeat.paramsDigest}: give each command an id of its own`,
    { details: { method, paramsDigest, repeatMethod: repeat.method, repeatParamsDigest: repeat.paramsDigest } },
  );
}

async function outcomeOf(run: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { result: await run() };
  } catch (error) {
    return { error };
  }
}

function settle(outcome: Outcome): unknown {
  if ('error' in outcome) throw outcome.error;
  return outcome.result;
}

/** The VM that a command is for: named, or about to be made. */
function vmOf({ vm, spec }: JsonObject): string | undefined {
  if (typeof vm === 'string') return vm;
  const name = typeof spec === 'object' && spec !== null && 'name' in spec ? spec['name'] : undefined;
  return typeof name === 'string' ? name : undefined;
}

function now(): string {
  return new Date().toISOString();
}
