/** Where a hub has its store, and its copies. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import type { HubConfig } from '../config.ts';
import { backupStore, restoreStore } from './backup.ts';
import { openSqliteStore } from './sqlite-store.ts';
import type { Store } from './store.ts';

export const IN_MEMORY = ':memory:';
const STORE_FILE = 'hub.db';
const BACKUPS = 'backups';

/** @throws FairleadError PERMISSION_DENIED (the directory), CONFLICT (another hub has it), UNSUPPORTED (newer data), STORAGE_FAILED */
export function openStoreOf({ dataDir, restoreFrom }: Pick<HubConfig, 'dataDir' | 'restoreFrom'>): Store {
  if (dataDir === IN_MEMORY) return openSqliteStore(IN_MEMORY);
  makeDirectory(dataDir);
  const path = join(dataDir, STORE_FILE);
  if (restoreFrom !== undefined) restoreStore(restoreFrom, path);
  return openSqliteStore(path);
}

/** @throws FairleadError UNSUPPORTED, STORAGE_FAILED */
export async function backupInto(dataDir: string, nowMs: number): Promise<{ path: string; bytes: number }> {
  if (dataDir === IN_MEMORY)
    throw new FairleadError('UNSUPPORTED', 'this hub keeps nothing on a disk, so that there is nothing to copy');
  const directory = join(dataDir, BACKUPS);
  makeDirectory(directory);
  const path = join(directory, `hub-${new Date(nowMs).toISOString().replaceAll(':', '')}.db`);
  return { path, ...(await backupStore(join(dataDir, STORE_FILE), path)) };
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new FairleadError('PERMISSION_DENIED', `could not make the directory ${path}: ${String(cause)}`, { cause });
  }
}
