/** A log in a table. Numbers are given out here, in the order of the calls; those of writes that failed are given out again. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Codec } from './codec.ts';
import type { Log, LogBounds, LogEntry, LogQuery } from './store.ts';
import type { LogRow } from './write.ts';
import type { WriteQueue } from './write-queue.ts';

export interface SqliteLogOptions<T> {
  readonly table: string;
  readonly codec: Codec<T>;
  readonly queue: WriteQueue;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export class SqliteLog<T> implements Log<T> {
  readonly #options: SqliteLogOptions<T>;
  readonly #all: StatementSync;
  readonly #ofSubject: StatementSync;
  readonly #first: StatementSync;
  readonly #highest: StatementSync;
  /** With what is on its way. */
  #last: number;

  constructor(database: DatabaseSync, options: SqliteLogOptions<T>) {
    const { table, queue } = options;
    this.#options = options;
    const columns = 'seq, subject, at, value';
    this.#all = database.prepare(`SELECT ${columns} FROM ${table} WHERE seq > ? ORDER BY seq LIMIT ?`);
    this.#ofSubject = database.prepare(`SELECT ${columns} FROM ${table} WHERE subject = ? AND seq > ? ORDER BY seq LIMIT ?`);
    this.#first = database.prepare(`SELECT min(seq) AS seq FROM ${table}`);
    this.#highest = database.prepare('SELECT seq FROM sqlite_sequence WHERE name = ?');
    this.#last = this.#durableLast();
    queue.onRolledBack(() => {
      this.#last = this.#durableLast();
    });
  }

  async append(subject: string, values: readonly T[]): Promise<number> {
    const { table, codec, queue, now } = this.#options;
    const atMs = now();
    const first = this.#last + 1;
    const rows = values.map((value, index): LogRow => {
      const seq = first + index;
      return [seq, subject, atMs, codec.encode(keyOf(seq, subject, atMs), value).text];
    });
    this.#last += rows.length;
    const last = this.#last;
    await queue.write({ kind: 'append', table, rows });
    return last;
  }

  async read({ subject, after = 0, limit = -1 }: LogQuery = {}): Promise<ReadonlyArray<LogEntry<T>>> {
    const rows = subject === undefined ? this.#all.all(after, limit) : this.#ofSubject.all(subject, after, limit);
    return rows.map((row) => {
      const [seq, entrySubject, atMs] = [Number(row['seq']), String(row['subject']), Number(row['at'])];
      const value = this.#options.codec.decode(keyOf(seq, entrySubject, atMs), String(row['value']));
      return { seq, subject: entrySubject, atMs, value };
    });
  }

  async bounds(): Promise<LogBounds> {
    const last = this.#durableLast();
    const first = this.#first.get()?.['seq'];
    return { forgotten: typeof first === 'number' ? first - 1 : last, last };
  }

  async trim(through: number): Promise<void> {
    await this.#options.queue.write({ kind: 'trim', table: this.#options.table, through });
  }

  async forget(subject: string): Promise<void> {
    await this.#options.queue.write({ kind: 'forget', table: this.#options.table, subject });
  }

  #durableLast(): number {
    return Number(this.#highest.get(this.#options.table)?.['seq'] ?? 0);
  }
}

/** All that an entry is besides its value, so that none of it can turn into something else unseen. */
function keyOf(seq: number, subject: string, atMs: number): string {
  return `${seq} of ${subject} at ${atMs}`;
}
