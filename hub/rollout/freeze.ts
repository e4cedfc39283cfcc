/** The switch for the whole fleet: while it is on, no rollout starts a host. What is under way ends, and taking back goes on. */
import * as v from 'valibot';
import { META } from '../store/records.ts';
import type { Collection, Store } from '../store/store.ts';

const FACT = 'rollouts.freeze';

export const Freeze = v.strictObject({ by: v.string(), reason: v.string(), atMs: v.number() });
export type Freeze = v.InferOutput<typeof Freeze>;

export class FreezeSwitch {
  readonly #meta: Collection<string>;
  #current: Freeze | undefined;

  constructor(store: Store) {
    this.#meta = store.collection(META);
  }

  /** As it was left. */
  async load(): Promise<void> {
    const stored = (await this.#meta.get(FACT))?.value;
    if (stored !== undefined) this.#current = v.parse(v.nullable(Freeze), JSON.parse(stored)) ?? undefined;
  }

  get current(): Freeze | undefined {
    return this.#current;
  }

  /** It holds at once, and is durable when it resolves. */
  async set(freeze: Freeze | undefined): Promise<void> {
    const before = this.#current;
    if (freeze !== undefined) this.#current = freeze;
    try {
      await this.#meta.put(FACT, JSON.stringify(freeze ?? null));
    } catch (error) {
      this.#current = before;
      throw error;
    }
    this.#current = freeze;
  }
}
