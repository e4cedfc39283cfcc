/** Desired state as the agent has it: loaded where there is some, and when the hub gives the first. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { DESIRED_METHODS } from '../../shared/protocol/methods-desired.ts';
import type { HandlersOf } from '../rpc/handlers/types.ts';
import type { DesiredKeeper, KeeperOptions } from './keeper.ts';

export class Upkeep implements AsyncDisposable {
  readonly #options: () => KeeperOptions;
  #keeper: Promise<DesiredKeeper> | undefined;

  constructor(options: () => KeeperOptions) {
    this.#options = options;
  }

  /** Goes on with what this host was to have before. */
  async takeUp(): Promise<void> {
    const { stateDir, logger } = this.#options();
    try {
      await access(join(stateDir, 'desired.json'));
    } catch {
      return;
    }
    await this.#open().catch((error: unknown) => logger.error({ error: String(error) }, 'desired state is not kept'));
  }

  get handlers(): HandlersOf<typeof DESIRED_METHODS> {
    return {
      'desired.set': async (state) => (await this.#open()).set(state),
      'desired.get': async () => (await this.#open()).status(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const keeper = await this.#keeper?.catch(() => undefined);
    await keeper?.[Symbol.asyncDispose]();
  }

  /** One that failed is tried again with the next call. */
  #open(): Promise<DesiredKeeper> {
    const opened = (this.#keeper ??= import('./keeper.ts').then(({ DesiredKeeper: Keeper }) => Keeper.open(this.#options())));
    opened.catch(() => {
      this.#keeper = undefined;
    });
    return opened;
  }
}
