/**
 * The embedded store: one SQLite file, written ahead and synced at each commit.
 *
 * `node:sqlite` is synchronous, so a commit holds the event loop for as long as the disk needs for its sync. Writes are therefore
 * gathered for one turn of the loop and committed together: ten thousand hosts that come back at once cost a few dozen syncs, not ten
 * thousand. If a commit fails, every write in it fails and none has happened. A read, change and write of one record runs within
 * such a transaction, so that any number of them on one record never wait for one another.
 */
import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { migrate } from './migrations.ts';
import { HostState, MetaValue, TokenState } from './records.ts';
import type { Collection, Store, Stored } from './store.ts';

/** How long we wait for a hub that is just ending to let go of the file. */
const BUSY_TIMEOUT_MS = 2000;

/** Runs within a transaction: all of it happens or, when it throws, none. `revision` is for what it writes. */
type Write = <R>(run: (revision: number) => R) => Promise<R>;

interface PendingWrite {
  /** Within the transaction; keeps its outcome. */
  run(revision: number): void;
  /** After the commit, or with the error because of which there was none. */
  settle(error?: unknown): void;
}

/** `path` may be `:memory:`: then nothing outlives the store. The file is made with mode 0600 and refused when a newer hub wrote it. */
export function openSqliteStore(path: string, options: { readonly busyTimeoutMs?: number } = {}): Store {
  if (path !== ':memory:') closeSync(openSync(path, 'a', 0o600));
  const database = new DatabaseSync(path, { timeout: options.busyTimeoutMs ?? BUSY_TIMEOUT_MS });
  try {
    lock(database, path);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;');
    migrate(database, path);
  } catch (error) {
    database.close();
    throw error;
  }
  return new SqliteStore(database);
}

/** One hub a file: two of them would each believe in their own sessions. The lock is the kernel's and ends with the process. */
function lock(database: DatabaseSync, path: string): void {
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT;');
  } catch (cause) {
    const message = `could not lock store ${path}: another process has it open; stop the other hub, or choose another --data-dir`;
    throw new FairleadError('CONFLICT', message, { cause });
  }
}

class SqliteStore implements Store {
  readonly hosts: Collection<HostState>;
  readonly tokens: Collection<TokenState>;
  readonly meta: Collection<string>;
  readonly #database: DatabaseSync;
  /** Revisions are drawn from one sequence and never repeat, so that a record that was removed and made anew is not taken for the old. */
  readonly #nextRevision: StatementSync;
  #pending: PendingWrite[] = [];

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#nextRevision = database.prepare('UPDATE sequence SET last = last + 1 RETURNING last');
    const write: Write = (run) => this.#write(run);
    this.hosts = new SqliteCollection(database, 'hosts', HostState, write);
    this.tokens = new SqliteCollection(database, 'tokens', TokenState, write);
    this.meta = new SqliteCollection(database, 'meta', MetaValue, write);
  }

  async close(): Promise<void> {
    this.#flush();
    if (this.#database.isOpen) this.#database.close();
  }

  async #write<R>(run: (revision: number) => R): Promise<R> {
    if (!this.#database.isOpen) throw new FairleadError('INTERNAL', 'could not write to the store: it is closed');
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    let tell: () => void = () => {};
    this.#pending.push({
      run: (revision) => {
        try {
          const result = run(revision);
          tell = () => resolve(result);
        } catch (error) {
          tell = () => reject(error);
        }
      },
      settle: (error) => {
        if (error === undefined) tell();
        else reject(error);
      },
    });
    if (this.#pending.length === 1) setImmediate(() => this.#flush());
    return await promise;
  }

  #flush(): void {
    const writes = this.#pending;
    if (writes.length === 0) return;
    this.#pending = [];
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const write of writes) {
        write.run(Number(this.#nextRevision.get()?.['last']));
        // A full disk ends the transaction by itself, and what came next would be committed alone.
        if (!this.#database.isTransaction) throw new FairleadError('INTERNAL', 'the store could not write: is its disk full?');
      }
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      for (const write of writes) write.settle(error);
      return;
    }
    for (const write of writes) write.settle();
  }
}

class SqliteCollection<T> implements Collection<T> {
  readonly #name: string;
  readonly #schema: v.GenericSchema<unknown, T>;
  readonly #write: Write;
  readonly #get: StatementSync;
  readonly #list: StatementSync;
  readonly #count: StatementSync;
  readonly #create: StatementSync;
  readonly #update: StatementSync;
  readonly #remove: StatementSync;

  constructor(database: DatabaseSync, table: 'hosts' | 'tokens' | 'meta', schema: v.GenericSchema<unknown, T>, write: Write) {
    this.#name = table;
    this.#schema = schema;
    this.#write = write;
    this.#get = database.prepare(`SELECT key, value, revision FROM ${table} WHERE key = ?`);
    this.#list = database.prepare(`SELECT key, value, revision FROM ${table} ORDER BY key`);
    this.#count = database.prepare(`SELECT count(*) AS count FROM ${table}`);
    this.#create = database.prepare(`INSERT INTO ${table} (key, value, revision) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`);
    this.#update = database.prepare(`UPDATE ${table} SET value = ?, revision = ? WHERE key = ? AND revision = ?`);
    this.#remove = database.prepare(`DELETE FROM ${table} WHERE key = ? AND revision = ?`);
  }

  async get(key: string): Promise<Stored<T> | undefined> {
    const row = this.#get.get(key);
    return row === undefined ? undefined : this.#decode(row);
  }

  async list(): Promise<ReadonlyArray<Stored<T>>> {
    return this.#list.all().map((row) => this.#decode(row));
  }

  async count(): Promise<number> {
    return Number(this.#count.get()?.['count']);
  }

  async create(key: string, value: T): Promise<boolean> {
    const text = this.#encode(key, value);
    return await this.#write((next) => this.#create.run(key, text, next).changes === 1);
  }

  async modify(key: string, change: (value: T) => T | undefined): Promise<T | undefined> {
    return await this.#write((next) => {
      const row = this.#get.get(key);
      const stored = row === undefined ? undefined : this.#decode(row);
      const value = stored === undefined ? undefined : change(stored.value);
      if (stored !== undefined && value !== undefined) this.#update.run(this.#encode(key, value), next, key, stored.revision);
      return value;
    });
  }

  async update(key: string, value: T, revision: number): Promise<boolean> {
    const text = this.#encode(key, value);
    return await this.#write((next) => this.#update.run(text, next, key, revision).changes === 1);
  }

  async remove(key: string, revision: number): Promise<boolean> {
    return await this.#write(() => this.#remove.run(key, revision).changes === 1);
  }

  /** Nothing is written that could not be read back: one such record would spoil every list. */
  #encode(key: string, value: T): string {
    const checked = v.safeParse(this.#schema, value);
    if (checked.success) return JSON.stringify(checked.output);
    throw new FairleadError('INTERNAL', `record ${key} of ${this.#name} was not written: ${v.summarize(checked.issues)}`);
  }

  #decode(row: Readonly<Record<string, unknown>>): Stored<T> {
    try {
      return { value: v.parse(this.#schema, JSON.parse(String(row['value']))), revision: Number(row['revision']) };
    } catch (cause) {
      const message = `record ${String(row['key'])} of ${this.#name} in the hub's store is damaged; restore the file from a backup`;
      throw new FairleadError('INTERNAL', message, { cause });
    }
  }
}
