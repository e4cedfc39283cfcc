/**
 * Schema of the SQLite file and its history. `user_version` counts the steps that were applied; each step runs once, in a transaction
 * of its own. A step, once released, is never edited: the next change is a new step.
 */
import type { DatabaseSync } from 'node:sqlite';
import { FairleadError } from '../../shared/errors.ts';

const record = (table: string) =>
  `CREATE TABLE ${table} (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;`;

const STEPS: readonly string[] = [
  `${record('hosts')} ${record('tokens')} ${record('meta')}
   CREATE TABLE sequence (last INTEGER NOT NULL) STRICT;
   INSERT INTO sequence VALUES (0);`,
];

/** @throws FairleadError UNSUPPORTED when the file was written by a newer hub. */
export function migrate(database: DatabaseSync, path: string): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0);
  if (version > STEPS.length) {
    const message = `store ${path} has schema ${version}, this hub knows ${STEPS.length}: it was written by a newer hub; upgrade this one`;
    throw new FairleadError('UNSUPPORTED', message);
  }
  for (const [index, step] of STEPS.entries()) {
    if (index < version) continue;
    database.exec(`BEGIN IMMEDIATE; ${step} PRAGMA user_version = ${index + 1}; COMMIT;`);
  }
}
