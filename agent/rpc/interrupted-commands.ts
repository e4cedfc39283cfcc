/**
 * Commands that an earlier agent left under way, each until it is known what became of it and that is durable. What is settled is settled
 * once; where it could not be written down, the next who needs to know tries again.
 */
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import type { Journal } from '../journal/journal.ts';
import type { Logger } from '../vm/api.ts';
import { type Reconciliation, reconciledOperation, type VmBrief } from './operation-record.ts';

export interface InterruptedOptions {
  readonly journal: Journal;
  readonly logger: Logger;
  /** How a VM is at this moment; undefined where there is none. */
  readonly look: (vm: string) => VmBrief | undefined;
  /** What became of a command; `isAlone`: no other for the same VM was under way. */
  readonly reconcile: (operation: Operation, about: { readonly isAlone: boolean }) => Promise<Reconciliation>;
}

interface Interrupted {
  readonly id: string;
  readonly vm: string | undefined;
  readonly isAlone: boolean;
  settling: Promise<void> | undefined;
}

export class InterruptedCommands {
  readonly #options: InterruptedOptions;
  readonly #commands = new Map<string, Interrupted>();
  #reading: Promise<void> | undefined;

  constructor(options: InterruptedOptions) {
    this.#options = options;
  }

  /** All of them. @throws FairleadError JOURNAL_FAILED, as all here do. */
  async settle(): Promise<void> {
    await this.#read();
    await Promise.all([...this.#commands.values()].map((one) => this.#settle(one)));
  }

  /** The command of that id, and those of the VM: before anything else happens to it. */
  async settleFor({ id, vm }: { readonly id: string; readonly vm?: string | undefined }): Promise<void> {
    await this.#read();
    if (this.#commands.size === 0) return;
    const inTheWay = [...this.#commands.values()].filter((one) => one.id === id || (vm !== undefined && one.vm === vm));
    await Promise.all(inTheWay.map((one) => this.#settle(one)));
  }

  /** Once, and so before the first command of this agent is accepted. */
  #read(): Promise<void> {
    this.#reading ??= this.#readUnfinished().catch((error: unknown) => {
      this.#reading = undefined;
      throw error;
    });
    return this.#reading;
  }

  async #readUnfinished(): Promise<void> {
    const unfinished = await this.#options.journal.unfinished();
    for (const { id, vm } of unfinished) {
      const isAlone = unfinished.every((other) => other.id === id || other.vm !== vm);
      this.#commands.set(id, { id, vm, isAlone, settling: undefined });
    }
  }

  #settle(interrupted: Interrupted): Promise<void> {
    interrupted.settling ??= this.#reconcile(interrupted).catch((error: unknown) => {
      interrupted.settling = undefined;
      throw error;
    });
    return interrupted.settling;
  }

  async #reconcile({ id, isAlone }: Interrupted): Promise<void> {
    const { journal, reconcile, look, logger } = this.#options;
    const operation = await journal.find(id);
    if (operation !== undefined) {
      const found = await reconcile(operation, { isAlone });
      const { method, vm } = operation;
      const after = vm === undefined ? undefined : look(vm);
      await journal.finish(reconciledOperation(operation, found, { at: new Date().toISOString(), after }));
      const { outcome, reason } = found;
      logger.warn({ command: id, method, vm, outcome, reason }, 'settled a command that an earlier agent left open');
    }
    this.#commands.delete(id);
  }
}
