/**
 * What the hub must remember beyond its own life, as two simple things that an embedded database and a replicated one can both promise:
 *
 *     Collection    whole records by key, written on the condition that nobody else did (compare and set): hosts, tokens, leases
 *     Log           entries that are only ever added, numbered through without a gap: what happened, what a rollout did, who called
 *
 * Whoever needs one defines it (`defineCollection`, `defineLog`), adds its table to migrations.ts as one more step, and gets it from the
 * store by that definition; nothing else of the store is to be touched:
 *
 *     const ROLLOUTS = defineCollection('rollouts', RolloutState);
 *     const rollouts = store.collection(ROLLOUTS);          the same object each time
 *     await rollouts.modify(id, (state) => ({ ...state, phase: 'paused' }));      answered: durable
 *
 * A write that was answered is durable. Writes become durable in the order in which they were made, so that waiting for the last one
 * is waiting for all, and many made at once share one sync of the disk. When the disk fails, every write that was not answered fails
 * (STORAGE_FAILED, and none of them has happened). Reads show what is durable: one's own writes once they were answered.
 *
 * Keys and subjects are ours and short; values are checked when they are written and when they are read back, so that a damaged or foreign
 * record is an error and never a half-understood host.
 */
import type * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';

export interface Stored<T> {
  readonly value: T;
  /** Another with each write, and never one that this store has used before. */
  readonly revision: number;
}

/** Of a list: keys in order of their code units. */
export interface KeyRange {
  /** Only keys that begin so. */
  readonly prefix?: string | undefined;
  /** Only keys that come after this one. */
  readonly after?: string | undefined;
  readonly limit?: number | undefined;
}

export interface Collection<T> {
  get(key: string): Promise<Stored<T> | undefined>;
  /** Records in the order of their keys; all of them unless a range is given. */
  list(range?: KeyRange): Promise<ReadonlyArray<Stored<T>>>;
  count(): Promise<number>;
  /** False when a record of that key exists already. */
  create(key: string, value: T): Promise<boolean>;
  /** Whatever is there by then is replaced. */
  put(key: string, value: T): Promise<void>;
  /**
   * Read, change, write back, as one. `change` may be called several times and must have no effect of its own; undefined from it leaves
   * the record alone, and what it throws is thrown. Returns what was written, or undefined when there is no record or no change.
   */
  modify(key: string, change: (value: T) => T | undefined): Promise<T | undefined>;
  /** False when the record is gone or its revision is another by now. */
  update(key: string, value: T, revision: number): Promise<boolean>;
  /** False when the record is gone or its revision is another by now. */
  remove(key: string, revision: number): Promise<boolean>;
  /** Removes whatever is there by then, if anything. */
  discard(key: string): Promise<void>;
}

export interface LogEntry<T> {
  /** From 1 on, one more with each entry of this log, whatever its subject; the same after a restart. */
  readonly seq: number;
  /** What the entry is about, such as the id of a rollout; entries are read back by it. */
  readonly subject: string;
  /** When it was appended, in Unix milliseconds. */
  readonly atMs: number;
  readonly value: T;
}

export interface LogQuery {
  readonly subject?: string | undefined;
  /** Only entries with a higher number. */
  readonly after?: number | undefined;
  readonly limit?: number | undefined;
}

/** Which numbers a log has: those after `forgotten`, up to `last`. */
export interface LogBounds {
  readonly forgotten: number;
  readonly last: number;
}

export interface Log<T> {
  /** Adds all of them, one after the other, or none; answers with the number of the last one. */
  append(subject: string, values: readonly T[]): Promise<number>;
  /** In their order. */
  read(query?: LogQuery): Promise<ReadonlyArray<LogEntry<T>>>;
  bounds(): Promise<LogBounds>;
  /** Forgets every entry up to that number. */
  trim(through: number): Promise<void>;
  /** Forgets the entries of one subject. Their numbers are not used again. */
  forget(subject: string): Promise<void>;
}

export interface CollectionDefinition<T> {
  /** Name of the table in migrations.ts. */
  readonly table: string;
  readonly schema: v.GenericSchema<unknown, T>;
  /** All its records stay in memory once they are read: to check one takes ten times as long as to find it, and all are looked at together. */
  readonly isHeld: boolean;
}

export interface LogDefinition<T> {
  readonly table: string;
  readonly schema: v.GenericSchema<unknown, T>;
}

export interface StoreHealth {
  readonly ok: boolean;
  /** Why the last write failed. */
  readonly reason?: string;
}

export interface Store {
  collection<T>(definition: CollectionDefinition<T>): Collection<T>;
  log<T>(definition: LogDefinition<T>): Log<T>;
  /** Not ok from a write that failed until one that succeeds. */
  readonly health: StoreHealth;
  /** Writes what waits, then lets go of the file. Idempotent. */
  close(): Promise<void>;
}

export function defineCollection<T>(
  table: string,
  schema: v.GenericSchema<unknown, T>,
  { isHeld = false }: { readonly isHeld?: boolean } = {},
): CollectionDefinition<T> {
  return { table, schema, isHeld };
}

export function defineLog<T>(table: string, schema: v.GenericSchema<unknown, T>): LogDefinition<T> {
  return { table, schema };
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
