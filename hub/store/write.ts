/** A write as it travels to where it is committed: plain data, decided already. What it may depend on was looked at before. */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';

export type Write =
  | { readonly kind: 'put'; readonly table: string; readonly key: string; readonly value: string; readonly revision: number }
  | { readonly kind: 'remove'; readonly table: string; readonly key: string }
  | { readonly kind: 'append'; readonly table: string; readonly rows: readonly LogRow[] }
  | { readonly kind: 'trim'; readonly table: string; readonly through: number }
  | { readonly kind: 'forget'; readonly table: string; readonly subject: string };

/** Number, subject, Unix milliseconds, value. */
export type LogRow = readonly [seq: number, subject: string, atMs: number, value: string];

/** Committed as one: all of it or nothing. */
export interface Batch {
  readonly writes: readonly Write[];
  /** The highest revision that was given out, so that none is given out twice. */
  readonly lastRevision: number;
}

const SQL = {
  put: (table: string) => `INSERT OR REPLACE INTO ${table} (key, value, revision) VALUES (?, ?, ?)`,
  remove: (table: string) => `DELETE FROM ${table} WHERE key = ?`,
  append: (table: string) => `INSERT INTO ${table} (seq, subject, at, value) VALUES (?, ?, ?, ?)`,
  trim: (table: string) => `DELETE FROM ${table} WHERE seq <= ?`,
  forget: (table: string) => `DELETE FROM ${table} WHERE subject = ?`,
} as const satisfies Record<Write['kind'], (table: string) => string>;

export class BatchWriter {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Returns once it is durable. @throws what SQLite throws, and then nothing of it has happened */
  commit({ writes, lastRevision }: Batch): void {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const write of writes) this.#apply(write);
      this.#run('UPDATE sequence SET last = ?', lastRevision);
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }

  #apply(write: Write): void {
    const sql = SQL[write.kind](write.table);
    if (write.kind === 'append') for (const row of write.rows) this.#run(sql, ...row);
    else this.#run(sql, ...argumentsOf(write));
  }

  #run(sql: string, ...values: readonly SQLInputValue[]): void {
    const statement = this.#statements.get(sql) ?? this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    statement.run(...values);
    // A full disk ends the transaction by itself, and what came next would be committed alone.
    if (!this.#database.isTransaction) throw new Error('the transaction has ended by itself');
  }
}

function argumentsOf(write: Exclude<Write, { kind: 'append' }>): readonly SQLInputValue[] {
  switch (write.kind) {
    case 'put':
      return [write.key, write.value, write.revision];
    case 'remove':
      return [write.key];
    case 'trim':
      return [write.through];
    case 'forget':
      return [write.subject];
  }
}
