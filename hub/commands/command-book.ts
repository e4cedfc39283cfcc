/**
 * The commands that the hub keeps: all that have not ended, and of the ended ones the newest, for a day. Held in memory in the order in
 * which they came, and in the store.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { Collection, Store } from '../store/store.ts';
import { COMMANDS, hasEnded, type KeptCommand } from './kept-command.ts';

const KEEP_MS = 24 * 3600 * 1000;
/** Commands that have not ended: each is a promise to somebody. */
const MAX_OPEN = 20_000;
/** Of one actor, so that whoever gives commands without end to hosts that are away leaves room for the others. */
const MAX_OPEN_OF_ONE = MAX_OPEN / 2;

export interface CommandBookOptions {
  readonly store: Store;
  /** Ended ones that are kept. */
  readonly maxEnded: number;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly onFault: (error: unknown) => void;
}

export class CommandBook {
  readonly #options: CommandBookOptions;
  readonly #collection: Collection<KeptCommand>;
  readonly #open = new Map<string, KeptCommand>();
  readonly #ended = new Map<string, KeptCommand>();

  private constructor(options: CommandBookOptions) {
    this.#options = options;
    this.#collection = options.store.collection(COMMANDS);
  }

  static async open(options: CommandBookOptions): Promise<CommandBook> {
    const book = new CommandBook(options);
    const commands = (await book.#collection.list()).map(({ value }) => value);
    for (const command of commands.toSorted((a, b) => a.createdAtMs - b.createdAtMs)) book.#remember(command);
    return book;
  }

  get(id: string): KeptCommand | undefined {
    return this.#open.get(id) ?? this.#ended.get(id);
  }

  open(): readonly KeptCommand[] {
    return [...this.#open.values()];
  }

  /** The newest first. */
  all(): readonly KeptCommand[] {
    return [...this.#ended.values(), ...this.#open.values()].toSorted((a, b) => b.createdAtMs - a.createdAtMs);
  }

  /** Resolves once it is durable. @throws FairleadError LIMIT_EXCEEDED, STORAGE_FAILED */
  async add(command: KeptCommand): Promise<void> {
    if (this.#open.size >= MAX_OPEN) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `${MAX_OPEN} commands wait for their hosts or run; cancel some, or try again later`,
      );
    }
    // Counted only where so many are open at all: it is done for each command.
    const own = this.#open.size < MAX_OPEN_OF_ONE ? 0 : this.#openOf(command.actor);
    if (own >= MAX_OPEN_OF_ONE) {
      const message = `${own} commands of ${command.actor} wait for their hosts or run, and the others need room too; cancel some, or try again later`;
      throw new FairleadError('LIMIT_EXCEEDED', message, { details: { open: own } });
    }
    this.#remember(command);
    try {
      await this.#collection.put(command.id, command);
    } catch (error) {
      this.#open.delete(command.id);
      throw error;
    }
  }

  /** Resolves once it is durable. @throws FairleadError STORAGE_FAILED, and it counts as changed all the same */
  async change(command: KeptCommand): Promise<void> {
    this.#remember(command);
    await this.#collection.put(command.id, command);
  }

  #remember(command: KeptCommand): void {
    const [from, to] = hasEnded(command) ? [this.#open, this.#ended] : [this.#ended, this.#open];
    from.delete(command.id);
    to.set(command.id, command);
    this.#forgetOld();
  }

  #forgetOld(): void {
    const { maxEnded, now, onFault } = this.#options;
    for (const [id, { endedAtMs = 0 }] of this.#ended) {
      if (this.#ended.size <= maxEnded && endedAtMs > now() - KEEP_MS) return;
      this.#ended.delete(id);
      this.#collection.discard(id).catch(onFault);
    }
  }

  #openOf(actor: string): number {
    return this.#open.values().reduce((count, open) => (open.actor === actor ? count + 1 : count), 0);
  }
}
