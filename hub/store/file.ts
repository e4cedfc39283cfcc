/** The file of the embedded store: made for its owner alone, open in one hub alone, brought up to date before anybody reads it. */
import { closeSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { FairleadError } from '../../shared/errors.ts';
import { migrate } from './migrations.ts';
import { requireWholeLog } from './wal-check.ts';

/** How long we wait for a hub that is just ending to let go of the file. */
const BUSY_TIMEOUT_MS = 2000;
/** Beyond this a write-ahead log is cut off when it has been taken over into the file. */
const MAX_WAL_BYTES = 64 * 1024 * 1024;
/** Pages of 4 KiB after which the write-ahead log is taken over. */
const CHECKPOINT_PAGES = 4000;

export interface StoreFile {
  /** To read with. */
  readonly database: DatabaseSync;
  close(): void;
}

/** @throws FairleadError CONFLICT (another process has it open), UNSUPPORTED (a newer hub wrote it), STORAGE_FAILED (it is damaged) */
export function openStoreFile(path: string, busyTimeoutMs = BUSY_TIMEOUT_MS): StoreFile {
  closeSync(openSync(path, 'a', 0o600));
  const lock = takeLock(path, busyTimeoutMs);
  let database: DatabaseSync | undefined;
  try {
    requireWholeLog(path);
    database = new DatabaseSync(path, { timeout: busyTimeoutMs });
    openForWriting(database);
    requireSound(database, path);
    migrate(database, path);
    database.exec('PRAGMA query_only = ON');
  } catch (error) {
    database?.close();
    lock.close();
    throw isDamage(error) ? damaged(path, error) : error;
  }
  const opened = database;
  return {
    database: opened,
    close: () => {
      if (opened.isOpen) opened.close();
      if (lock.isOpen) lock.close();
    },
  };
}

export function openForWriting(database: DatabaseSync): void {
  database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;
    PRAGMA journal_size_limit = ${MAX_WAL_BYTES}; PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};`);
}

/** Pages, indices and the order of keys; what the records themselves hold is checked as they are read (codec.ts). */
function requireSound(database: DatabaseSync, path: string): void {
  const [found] = database.prepare('PRAGMA integrity_check(1)').all();
  const said = String(found?.['integrity_check']);
  if (said !== 'ok') throw damaged(path, new Error(said));
}

/** sqlite.org/rescode.html */
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

function isDamage(error: unknown): boolean {
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0;
  return code === SQLITE_CORRUPT || code === SQLITE_NOTADB;
}

function damaged(path: string, cause: unknown): FairleadError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const remedy = 'move it aside and start from a backup (restoreFrom)';
  return new FairleadError('STORAGE_FAILED', `store ${path} is damaged (${why}): ${remedy}`, { cause });
}

/**
 * One hub a file: two of them would each believe in their own sessions. The lock is the kernel's and ends with the process. It is on a
 * file of its own, because the store's is open several times in its hub.
 */
function takeLock(path: string, busyTimeoutMs: number): DatabaseSync {
  const lockPath = `${path}-lock`;
  closeSync(openSync(lockPath, 'a', 0o600));
  const lock = new DatabaseSync(lockPath, { timeout: busyTimeoutMs });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
    return lock;
  } catch (cause) {
    lock.close();
    const message = `could not lock store ${path}: another process has it open; stop the other hub, or choose another --data-dir`;
    throw new FairleadError('CONFLICT', message, { cause });
  }
}
