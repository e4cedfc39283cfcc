/**
 * A collection in a table. This process alone writes to the file (file.ts), so that every condition is decided here, on what is durable
 * and the writes that are on their way; what goes to the disk is decided already.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Codec } from './codec.ts';
import type { Collection, KeyRange, Stored } from './store.ts';
import type { WriteQueue } from './write-queue.ts';

/** A write that is not durable yet. */
interface Pending<T> {
  /** Undefined for a record that is being removed. */
  readonly value: T | undefined;
  readonly revision: number;
  /** Rejects when it did not happen. */
  readonly committed: Promise<void>;
}

/** Sorts after every character of a key. */
const LAST_CHARACTER = '\u{10FFFF}';

export class SqliteCollection<T> implements Collection<T> {
  readonly #table: string;
  readonly #codec: Codec<T>;
  readonly #queue: WriteQueue;
  readonly #get: StatementSync;
  readonly #list: StatementSync;
  readonly #count: StatementSync;
  readonly #pending = new Map<string, Pending<T>>();

  constructor(database: DatabaseSync, table: string, codec: Codec<T>, queue: WriteQueue) {
    this.#table = table;
    this.#codec = codec;
    this.#queue = queue;
    this.#get = database.prepare(`SELECT key, value, revision FROM ${table} WHERE key = ?`);
    this.#list = database.prepare(
      `SELECT key, value, revision FROM ${table} WHERE key > ? AND key >= ? AND key < ? ORDER BY key LIMIT ?`,
    );
    this.#count = database.prepare(`SELECT count(*) AS count FROM ${table}`);
    queue.onRolledBack(() => this.#pending.clear());
  }

  async get(key: string): Promise<Stored<T> | undefined> {
    return this.#read(key);
  }

  async list({ prefix = '', after = '', limit = -1 }: KeyRange = {}): Promise<ReadonlyArray<Stored<T>>> {
    return this.#list.all(after, prefix, prefix + LAST_CHARACTER, limit).map((row) => this.#decode(row));
  }

  async count(): Promise<number> {
    return Number(this.#count.get()?.['count']);
  }

  async create(key: string, value: T): Promise<boolean> {
    const text = this.#codec.encode(key, value);
    return await this.#writeIf(
      key,
      (latest) => latest === undefined,
      () => this.#put(key, text),
    );
  }

  async put(key: string, value: T): Promise<void> {
    await this.#put(key, this.#codec.encode(key, value));
  }

  async modify(key: string, change: (value: T) => T | undefined): Promise<T | undefined> {
    const pending = this.#pending.get(key);
    const current = this.#latest(key);
    try {
      const value = current === undefined ? undefined : change(current.value);
      if (value !== undefined) {
        await this.#put(key, this.#codec.encode(key, value));
        return value;
      }
    } catch (error) {
      // What it was decided on must be durable before it is told.
      await pending?.committed;
      throw error;
    }
    await pending?.committed;
    return undefined;
  }

  async update(key: string, value: T, revision: number): Promise<boolean> {
    const text = this.#codec.encode(key, value);
    return await this.#writeIf(
      key,
      (latest) => latest?.revision === revision,
      () => this.#put(key, text),
    );
  }

  async remove(key: string, revision: number): Promise<boolean> {
    return await this.#writeIf(
      key,
      (latest) => latest?.revision === revision,
      () => this.#remove(key),
    );
  }

  async discard(key: string): Promise<void> {
    await this.#remove(key);
  }

  /** Decided on what is durable and on its way; refused only on what is durable, so that a refusal is no guess. */
  async #writeIf(
    key: string,
    isAsWished: (latest: Stored<T> | undefined) => boolean,
    write: () => Promise<void>,
  ): Promise<boolean> {
    for (;;) {
      const pending = this.#pending.get(key);
      if (isAsWished(this.#latest(key))) {
        await write();
        return true;
      }
      if (pending === undefined) return false;
      await pending.committed.catch(() => {});
    }
  }

  #latest(key: string): Stored<T> | undefined {
    const pending = this.#pending.get(key);
    if (pending === undefined) return this.#read(key);
    return pending.value === undefined ? undefined : { value: pending.value, revision: pending.revision };
  }

  #read(key: string): Stored<T> | undefined {
    this.#queue.requireOpen();
    const row = this.#get.get(key);
    return row === undefined ? undefined : this.#decode(row);
  }

  async #put(key: string, text: string): Promise<void> {
    const revision = this.#queue.nextRevision();
    const committed = this.#queue.write({ kind: 'put', table: this.#table, key, value: text, revision });
    await this.#keep(key, { value: this.#codec.decode(key, text), revision, committed });
  }

  async #remove(key: string): Promise<void> {
    const committed = this.#queue.write({ kind: 'remove', table: this.#table, key });
    await this.#keep(key, { value: undefined, revision: this.#queue.nextRevision(), committed });
  }

  async #keep(key: string, pending: Pending<T>): Promise<void> {
    this.#pending.set(key, pending);
    try {
      await pending.committed;
    } finally {
      if (this.#pending.get(key) === pending) this.#pending.delete(key);
    }
  }

  #decode(row: Readonly<Record<string, unknown>>): Stored<T> {
    return { value: this.#codec.decode(String(row['key']), String(row['value'])), revision: Number(row['revision']) };
  }
}
