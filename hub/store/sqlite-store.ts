/**
 * The embedded store: one SQLite file, written ahead and synced at each commit by a thread of its own, read from here.
 *
 * A read is a look into pages that are in memory as a rule, some 10 µs; a commit waits for the disk, and therefore not here.
 */
import { DatabaseSync } from 'node:sqlite';
import { FairleadError } from '../../shared/errors.ts';
import { type Codec, codecOf } from './codec.ts';
import { inlineCommitter, threadCommitter } from './committer.ts';
import { openStoreFile, type StoreFile } from './file.ts';
import { migrate } from './migrations.ts';
import { SqliteCollection } from './sqlite-collection.ts';
import { SqliteLog } from './sqlite-log.ts';
import type { Collection, CollectionDefinition, Log, LogDefinition, Store, StoreHealth } from './store.ts';
import { WriteQueue } from './write-queue.ts';

const IN_MEMORY = ':memory:';

export interface SqliteStoreOptions {
  readonly busyTimeoutMs?: number;
  /** Unix milliseconds, for the entries of logs. */
  readonly now?: () => number;
}

/**
 * `path` may be `:memory:`: then nothing outlives the store. The file is made with mode 0600.
 *
 * @throws FairleadError CONFLICT (another process has it open), UNSUPPORTED (a newer hub wrote it)
 */
export function openSqliteStore(path: string, { busyTimeoutMs, now = Date.now }: SqliteStoreOptions = {}): Store {
  const file = path === IN_MEMORY ? openInMemory() : openStoreFile(path, busyTimeoutMs);
  const committer = path === IN_MEMORY ? inlineCommitter(file.database) : threadCommitter(path);
  const lastRevision = Number(file.database.prepare('SELECT last FROM sequence').get()?.['last']);
  return new SqliteStore(file, new WriteQueue(committer, lastRevision), now);
}

function openInMemory(): StoreFile {
  const database = new DatabaseSync(IN_MEMORY);
  migrate(database, IN_MEMORY);
  return { database, close: () => database.close() };
}

class SqliteStore implements Store {
  readonly #file: StoreFile;
  readonly #queue: WriteQueue;
  readonly #now: () => number;
  readonly #collections = new Map<object, unknown>();
  readonly #tables = new Set<string>();
  #closed: Promise<void> | undefined;

  constructor(file: StoreFile, queue: WriteQueue, now: () => number) {
    this.#file = file;
    this.#queue = queue;
    this.#now = now;
  }

  get health(): StoreHealth {
    return this.#queue.health;
  }

  collection<T>(definition: CollectionDefinition<T>): Collection<T> {
    return this.#once(definition, (codec) => new SqliteCollection(this.#file.database, definition, codec, this.#queue));
  }

  log<T>(definition: LogDefinition<T>): Log<T> {
    const { table } = definition;
    return this.#once(
      definition,
      (codec) => new SqliteLog(this.#file.database, { table, codec, queue: this.#queue, now: this.#now }),
    );
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#queue.close();
    this.#file.close();
  }

  /** A table has one owner: two would not know of each other's writes that are on their way. */
  #once<T, R>(definition: LogDefinition<T>, make: (codec: Codec<T>) => R): R {
    const { table, schema } = definition;
    const known = this.#collections.get(definition);
    // SAFETY: what is kept under a definition was made for it below, with its T.
    if (known !== undefined) return known as R;
    if (this.#closed !== undefined)
      throw new FairleadError('INTERNAL', `table ${table} of the store cannot be had: it is closed`);
    if (this.#tables.has(table)) throw new FairleadError('INTERNAL', `table ${table} of the store is defined twice`);
    const made = make(codecOf(table, schema));
    this.#tables.add(table);
    this.#collections.set(definition, made);
    return made;
  }
}
