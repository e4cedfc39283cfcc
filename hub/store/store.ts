/**
 * What the hub must remember beyond its own life: hosts with their keys and epochs, tokens, and a few facts of itself.
 *
 * The interface is a compare-and-set of whole records, because that is what both an embedded database and a replicated key-value
 * store can promise, and because it is enough: a one-time token is consumed, an epoch rises and a lease is taken by reading a
 * record with its revision and writing it back on the condition that nobody else did.
 *
 * A write that was answered is durable. Keys are ours and short; values are validated when they are read back, so that a damaged
 * or foreign record is an error and never a half-understood host.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { HostState, TokenState } from './records.ts';

export interface Stored<T> {
  readonly value: T;
  /** Another with each write, and never one that this store has used before. */
  readonly revision: number;
}

export interface Collection<T> {
  get(key: string): Promise<Stored<T> | undefined>;
  /** Every record in the order of its key. */
  list(): Promise<ReadonlyArray<Stored<T>>>;
  count(): Promise<number>;
  /** False when a record of that key exists already. */
  create(key: string, value: T): Promise<boolean>;
  /**
   * Read, change, write back, as one. `change` may be called several times and must have no effect of its own; undefined from it leaves
   * the record alone, and what it throws is thrown. Returns what was written, or undefined when there is no record or no change.
   */
  modify(key: string, change: (value: T) => T | undefined): Promise<T | undefined>;
  /** False when the record is gone or its revision is another by now. */
  update(key: string, value: T, revision: number): Promise<boolean>;
  /** False when the record is gone or its revision is another by now. */
  remove(key: string, revision: number): Promise<boolean>;
}

export interface Store {
  readonly hosts: Collection<HostState>;
  readonly tokens: Collection<TokenState>;
  readonly meta: Collection<string>;
  close(): Promise<void>;
}

/** A record is written by few: more rounds than this mean a fault, not bad luck. */
const MAX_ROUNDS = 64;

/** Removes the record as it is by then. False when there is none. */
export async function removeLatest<T>(collection: Collection<T>, key: string): Promise<boolean> {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const stored = await collection.get(key);
    if (stored === undefined) return false;
    if (await collection.remove(key, stored.revision)) return true;
  }
  throw new FairleadError('INTERNAL', `record ${key} changed ${MAX_ROUNDS} times while it was being removed`);
}

/** The value under `key`, made from `initial` when it is not there yet. Of several that try at once all get the same one. */
export async function getOrCreate<T>(collection: Collection<T>, key: string, initial: () => T): Promise<T> {
  const stored = await collection.get(key);
  if (stored !== undefined) return stored.value;
  const value = initial();
  if (await collection.create(key, value)) return value;
  return await getOrCreate(collection, key, initial);
}
