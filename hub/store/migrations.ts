/**
 * Schema of the SQLite file and its history. `user_version` counts the steps that were applied; each step runs once, in a transaction
 * of its own. A step, once released, is never edited: whoever needs a table appends a step.
 */
import type { DatabaseSync } from 'node:sqlite';
import { FairleadError } from '../../shared/errors.ts';

/** For a Collection. */
const records = (table: string) =>
  `CREATE TABLE ${table} (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;`;

/** For a Log. AUTOINCREMENT keeps the highest number ever used, also when its entry is forgotten. */
const entries = (table: string) =>
  `CREATE TABLE ${table} (seq INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, at INTEGER NOT NULL, value TEXT NOT NULL) STRICT;
   CREATE INDEX ${table}_by_subject ON ${table} (subject, seq);`;

const STEPS: readonly string[] = [
  `${records('hosts')} ${records('tokens')} ${records('meta')}
   CREATE TABLE sequence (last INTEGER NOT NULL) STRICT;
   INSERT INTO sequence VALUES (0);`,
  `${records('leases')} ${records('rollouts')} ${entries('rollout_log')} ${records('blobs')} ${records('tags')}`,
  `${entries('events')} ${entries('audit')} ${records('vms')} ${records('event_cursors')}`,
  records('commands'),
  `${records('documents')} ${records('host_upkeep')}`,
  records('blob_holders'),
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
