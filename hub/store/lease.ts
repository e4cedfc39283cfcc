/**
 * A lease says who alone does something, such as drive a rollout, until when, and with which fencing epoch. The epoch rises each time the
 * lease is taken: it goes with every command, so that whoever acts on it refuses what an earlier holder, late or paused, still sends.
 *
 *     free ──take──▶ held (epoch + 1) ──renew──▶ held ──release, or its time is over──▶ free
 *
 * Times are compared on the clock of the date, for they are compared between processes. A hub that is started anew takes the leases of
 * its earlier life at once: the store's file is open in one hub alone, so that the earlier one is gone.
 */
import * as v from 'valibot';
import { type Collection, defineCollection, type Store } from './store.ts';

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

const LeaseState = v.strictObject({
  /** The hub, and which life of it. */
  hubId: v.string(),
  bootId: v.string(),
  epoch: Count,
  expiresAtMs: Count,
});
type LeaseState = v.InferOutput<typeof LeaseState>;

export const LEASES = defineCollection('leases', LeaseState);

export interface LeaseOptions {
  readonly store: Store;
  readonly hubId: string;
  /** Another for each life of a hub. */
  readonly bootId: string;
  readonly ttlMs: number;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export class Leases {
  readonly #options: LeaseOptions;
  readonly #collection: Collection<LeaseState>;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#collection = options.store.collection(LEASES);
  }

  /** The fencing epoch, or undefined while another one holds it. A holder that takes it again gets a higher one. */
  async take(name: string): Promise<number | undefined> {
    if (await this.#collection.create(name, this.#held(1))) return 1;
    const taken = await this.#collection.modify(name, (state) =>
      this.#mayTake(state) ? this.#held(state.epoch + 1) : undefined,
    );
    return taken?.epoch;
  }

  /** False when it is held with another epoch by now, or its time was over: then everything done on it must stop. */
  async renew(name: string, epoch: number): Promise<boolean> {
    const renewed = await this.#collection.modify(name, (state) => (this.#holds(state, epoch) ? this.#held(epoch) : undefined));
    return renewed !== undefined;
  }

  /** Whether nobody has taken it since; also when its time is over. */
  async isOurs(name: string, epoch: number): Promise<boolean> {
    const { value } = (await this.#collection.get(name)) ?? {};
    return value?.epoch === epoch && value.bootId === this.#options.bootId;
  }

  /** Others may take it at once. Does nothing when it is held with another epoch. */
  async release(name: string, epoch: number): Promise<void> {
    await this.#collection.modify(name, (state) => (this.#holds(state, epoch) ? { ...state, expiresAtMs: 0 } : undefined));
  }

  #held(epoch: number): LeaseState {
    const { hubId, bootId, now, ttlMs } = this.#options;
    return { hubId, bootId, epoch, expiresAtMs: now() + ttlMs };
  }

  #mayTake({ hubId, expiresAtMs }: LeaseState): boolean {
    return hubId === this.#options.hubId || expiresAtMs <= this.#options.now();
  }

  #holds({ bootId, epoch, expiresAtMs }: LeaseState, wanted: number): boolean {
    return bootId === this.#options.bootId && epoch === wanted && expiresAtMs > this.#options.now();
  }
}
