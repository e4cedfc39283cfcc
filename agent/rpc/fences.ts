/**
 * Who may still give commands of a rollout. A command may carry a fence, `{scope, epoch}`: the epoch rises each time another hub takes the rollout
 * over. The highest that was ever seen of a scope counts, and what comes with a lower one is refused: its sender has been replaced and does not
 * know it yet. It outlives the agent, for a late command may come after a restart.
 */
import * as v from 'valibot';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { Fence } from '../../shared/protocol/fence.ts';
import { type TextFile, textFileAt } from './text-file.ts';

/** Scopes that are remembered; the one that was seen longest ago is forgotten for a further one. */
const MAX_SCOPES = 256;

const FencesFile = v.strictObject({ version: v.literal(1), fences: v.pipe(v.array(Fence), v.maxLength(MAX_SCOPES)) });

export class Fences {
  readonly #path: string;
  readonly #file: TextFile;
  /** The one that was raised last at the end. */
  readonly #epochs = new Map<string, number>();
  #loading: Promise<void> | undefined;
  /** What was raised and is not in the file yet. */
  #isDirty = false;
  #saving: Promise<void> | undefined;

  /** `path` names the file in errors, and is where it lies unless it is given. */
  constructor(path: string, file: TextFile = textFileAt(path)) {
    this.#path = path;
    this.#file = file;
  }

  /** Durable when it resolves. @throws FairleadError FENCED, JOURNAL_FAILED */
  async admit({ scope, epoch }: Fence): Promise<void> {
    await this.#load();
    const highest = this.#epochs.get(scope) ?? 0;
    if (epoch < highest) {
      const message = `this command is of epoch ${epoch} of ${scope}, and epoch ${highest} has been here: another hub has taken it over`;
      throw new FairleadError('FENCED', message, { details: { scope, epoch, highest } });
    }
    if (epoch > highest) this.#raise(scope, epoch);
    // A write that is under way may be without the newest; then another follows.
    while (this.#isDirty || this.#saving !== undefined) await this.#save();
  }

  #raise(scope: string, epoch: number): void {
    this.#epochs.delete(scope);
    this.#epochs.set(scope, epoch);
    const [oldest] = this.#epochs.keys();
    if (this.#epochs.size > MAX_SCOPES && oldest !== undefined) this.#epochs.delete(oldest);
    this.#isDirty = true;
  }

  /** One write at a time, for all who wait for it. */
  #save(): Promise<void> {
    this.#saving ??= this.#write().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  async #write(): Promise<void> {
    const fences = [...this.#epochs].map(([scope, epoch]) => ({ scope, epoch }));
    this.#isDirty = false;
    try {
      await this.#file.write(JSON.stringify({ version: 1, fences }));
    } catch (cause) {
      this.#isDirty = true;
      throw failed(`could not write ${this.#path}`, cause);
    }
  }

  #load(): Promise<void> {
    this.#loading ??= this.#read().catch((error: unknown) => {
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  async #read(): Promise<void> {
    try {
      const text = await this.#file.read();
      if (text === undefined) return;
      const { fences } = v.parse(FencesFile, JSON.parse(text));
      for (const { scope, epoch } of fences) this.#epochs.set(scope, epoch);
    } catch (cause) {
      throw failed(`could not read ${this.#path}`, cause);
    }
  }
}

function failed(what: string, cause: unknown): FairleadError {
  const why = `${what}: ${toFairleadError(cause).message}, so commands of rollouts are refused`;
  return new FairleadError('JOURNAL_FAILED', why, { cause });
}
