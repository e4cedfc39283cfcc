/** Releases of a simulated host: changing for one takes as long, and fails as often, as the script says of `agent.update`. Nothing is fetched. */
import { setTimeout as sleep } from 'node:timers/promises';
import { FairleadError } from '../../shared/errors.ts';
import { VERSION } from '../../shared/node/version.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import type { UpdateOptions, UpdateOutcome, Updates } from '../update/updates.ts';
import type { HostFaults } from './script.ts';

export interface SimUpdatesOptions {
  readonly faults: HostFaults;
  readonly now: () => number;
  readonly onOperation: (ok: boolean) => void;
}

export class SimUpdates implements Updates {
  readonly #options: SimUpdatesOptions;
  #release = 'installed';
  #previous: string | undefined;

  constructor(options: SimUpdatesOptions) {
    this.#options = options;
  }

  async release(): Promise<Result<'agent.release'>> {
    return { ...this.#runs(), updatable: true, onTrial: false };
  }

  async update({ release }: Params<'agent.update'>, { signal }: Pick<UpdateOptions, 'signal'>): Promise<Result<'agent.update'>> {
    if (release === this.#release) return this.#runs();
    const { faults, now, onOperation } = this.#options;
    const { delayMs, error } = faults.next('agent.update', now());
    await sleep(delayMs, undefined, { signal });
    onOperation(error === undefined);
    if (error !== undefined) {
      throw new FairleadError('UPDATE_FAILED', `release ${release} was tried and left: ${error.message}; ${this.#release} runs`);
    }
    this.#previous = this.#release;
    this.#release = release;
    return this.#runs();
  }

  /** Its release lives as long as the process, and no command of an earlier one is known. */
  async outcomeOf(): Promise<UpdateOutcome | undefined> {
    return undefined;
  }

  #runs(): Result<'agent.update'> {
    const previous = this.#previous;
    return { release: this.#release, version: VERSION, ...(previous === undefined ? {} : { previous }) };
  }
}
