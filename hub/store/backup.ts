/**
 * Copies of the store while the hub runs, and a hub that starts from one.
 *
 * A copy is of one moment: every write that was answered before it, and none that came later. What is started from a copy is another history
 * than what went on after it, and says so: numbers that were given out since are not taken for the same (`eventEpoch` in META), and fencing epochs
 * go on far above any that hosts may have seen.
 */
import { copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { backup, DatabaseSync } from 'node:sqlite';
import { FairleadError } from '../../shared/errors.ts';
import { codecOf } from './codec.ts';
import { LEASES } from './lease.ts';
import { migrate } from './migrations.ts';

/** All pages in one step, so that writes in between do not make it begin anew. */
const ALL_PAGES = 0x7fff_ffff;
/** Higher than leases are taken in any hub's life. */
const EPOCH_LEAP = 1_000_000;

/** Copies the store at `path` to `target`, which is not there yet. @throws FairleadError CONFLICT, STORAGE_FAILED */
export async function backupStore(path: string, target: string): Promise<{ readonly bytes: number }> {
  if (existsSync(target)) throw new FairleadError('CONFLICT', `there is a file ${target} already`);
  const partial = `${target}.partial`;
  try {
    // Whatever the umask, nobody else reads it.
    await (await open(partial, 'w', 0o600)).close();
    const source = new DatabaseSync(path, { readOnly: true });
    try {
      await backup(source, partial, { rate: ALL_PAGES });
    } finally {
      source.close();
    }
    await sync(partial);
    await rename(partial, target);
    await sync(dirname(target));
    return { bytes: (await stat(target)).size };
  } catch (cause) {
    await rm(partial, { force: true });
    throw new FairleadError('STORAGE_FAILED', `could not write the backup ${target}: ${String(cause)}`, { cause });
  }
}

/** Makes the store at `path`, where there is none, from a copy. @throws FairleadError CONFLICT, STORAGE_FAILED, UNSUPPORTED */
export function restoreStore(copy: string, path: string): void {
  if (existsSync(path)) {
    const message = `there is a store ${path} already: move it aside, or choose another --data-dir, and start from ${copy} then`;
    throw new FairleadError('CONFLICT', message);
  }
  const partial = `${path}.partial`;
  try {
    rmSync(partial, { force: true });
    copyFileSync(copy, partial);
    beginAnotherHistory(partial);
    renameSync(partial, path);
  } catch (cause) {
    rmSync(partial, { force: true });
    if (cause instanceof FairleadError) throw cause;
    throw new FairleadError('STORAGE_FAILED', `could not start from the backup ${copy}: ${String(cause)}`, { cause });
  }
}

function beginAnotherHistory(path: string): void {
  const database = new DatabaseSync(path);
  try {
    const check = database.prepare('PRAGMA integrity_check').get();
    if (check?.['integrity_check'] !== 'ok')
      throw new FairleadError('STORAGE_FAILED', `${path} is damaged: ${JSON.stringify(check)}`);
    migrate(database, path);
    database.exec(`PRAGMA synchronous = FULL; BEGIN IMMEDIATE; DELETE FROM meta WHERE key = 'eventEpoch';`);
    leapOver(database);
    database.exec('COMMIT; PRAGMA journal_mode = DELETE;');
  } finally {
    database.close();
  }
}

/** What is leased is free, and is taken with an epoch that no host has seen. */
function leapOver(database: DatabaseSync): void {
  const codec = codecOf(LEASES.table, LEASES.schema);
  const update = database.prepare('UPDATE leases SET value = ? WHERE key = ?');
  for (const row of database.prepare('SELECT key, value FROM leases').all()) {
    const key = String(row['key']);
    const lease = codec.decode(key, String(row['value']));
    update.run(codec.encode(key, { ...lease, epoch: lease.epoch + EPOCH_LEAP, expiresAtMs: 0 }).text, key);
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
