/**
 * A collection in a table. This process alone writes to the file (file.ts), so that every condition is decided here, on what is durable
 * and the writes that are on their way; what goes to the disk is decided already.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Codec } from './codec.ts';
import { LatelyRead } from './lately-read.ts';
import type { Collection, CollectionDefinition, KeyRange, Stored } from './store.ts';
import type { WriteQueue } from './write-queue.ts';

/** A write that is not durable yet. */
interface Pending<T> {
  /** Undefined for a record that is being removed. */
  readonly value: T | undefined;
  readonly revision: number;
  /** Of its text. */
  readonly chars: number;
  /** Rejects when it did not happen. */
  readonly committed: Promise<void>;
}

type Row = Readonly<Record<string, unknown>>;

/** Sorts after every character of a key. */
const LAST_CHARACTER = '\u{10FFFF}';

export class SqliteCollection<T> implements Collection<T> {
  readonly #table: string;
  readonly #isHeld: boolean;
  readonly #codec: Codec<T>;
  readonly #queue: WriteQueue;
  readonly #get: StatementSync;
  readonly #list: StatementSync;
  readonly #count: StatementSync;
  readonly #pending = new Map<string, Pending<T>>();
  readonly #lately: LatelyRead<Stored<T>>;

  constructor(database: DatabaseSync, { table, isHeld }: CollectionDefinition<T>, codec: Codec<T>, queue: WriteQueue) {
    this.#table = table;
    this.#isHeld = isHeld;
    this.#lately = new LatelyRead(isHeld);
    this.#codec = codec;
    this.#queue = queue;
    this.#get = database.prepare(`SELECT key, value, revision FROM ${table} WHERE key = ?`);
    this.#list = database.prepare(
      `SELECT key, value, revision FROM ${table} WHERE key > ? AND key >= ? AND key < ? ORDER BY key LIMIT ?`,
    );
    this.#count = database.prepare(`SELECT count(*) AS count FROM ${table}`);
    queue.onRolledBack(() => {
      this.#pending.clear();
      this.#lately.clear();
    });
  }

  async get(key: string): Promise<Stored<T> | undefined> {
    return this.#read(key);
  }

  async list({ prefix = '', after = '', limit = -1 }: KeyRange = {}): Promise<ReadonlyArray<Stored<T>>> {
    return this.#list.all(after, prefix, prefix + LAST_CHARACTER, limit).map((row) => {
      const known = this.#lately.get(String(row['key']));
      if (known !== undefined && known.revision === Number(row['revision'])) return known;
      return this.#isHeld ? this.#take(row) : this.#decode(row);
    });
  }

  async count(): Promise<number> {
    return Number(this.#count.get()?.['count']);
  }

  async create(key: string, value: T): Promise<boolean> {
    const encoded = this.#codec.encode(key, value);
    return await this.#writeIf(
      key,
      (latest) => latest === undefined,
      () => this.#put(key, encoded),
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
    const encoded = this.#codec.encode(key, value);
    return await this.#writeIf(
      key,
      (latest) => latest?.revision === revision,
      () => this.#put(key, encoded),
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
    const known = this.#lately.get(key);
    if (known !== undefined) return known;
    const row = this.#get.get(key);
    return row === undefined ? undefined : this.#take(row);
  }

  #take(row: Row): Stored<T> {
    const stored = this.#decode(row);
    const key = String(row['key']);
    // What is about to be replaced is read no more.
    if (!this.#pending.has(key)) this.#lately.set(key, stored, String(row['value']).length);
    return stored;
  }

  async #put(key: string, { text, value }: ReturnType<Codec<T>['encode']>): Promise<void> {
    const revision = this.#queue.nextRevision();
    const committed = this.#queue.write({ kind: 'put', table: this.#table, key, value: text, revision });
    await this.#keep(key, { value, revision, committed, chars: text.length });
  }

  async #remove(key: string): Promise<void> {
    const committed = this.#queue.write({ kind: 'remove', table: this.#table, key });
    await this.#keep(key, { value: undefined, revision: this.#queue.nextRevision(), committed, chars: 0 });
  }

  async #keep(key: string, pending: Pending<T>): Promise<void> {
    const { value, revision, chars, committed } = pending;
    this.#pending.set(key, pending);
    this.#lately.delete(key);
    const isLast = (): boolean => this.#pending.get(key) === pending;
    try {
      await committed;
      // In the very turn in which it is pending no more: of two writes that end together the later one counts.
      if (isLast() && value !== undefined) this.#lately.set(key, { value, revision }, chars);
    } finally {
      if (isLast()) this.#pending.delete(key);
    }
  }

  #decode(row: Row): Stored<T> {
    return { value: this.#codec.decode(String(row['key']), String(row['value'])), revision: Number(row['revision']) };
  }
}
