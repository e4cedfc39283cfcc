/**
 * The hub's store: acknowledged writes a second where many are made at once and share a sync (group commit), beside the same store where each
 * is waited for before the next. Both write the same to a file on the disk of the temporary directory.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { defineLog, type Log, type Store } from '../../hub/store/store.ts';
import type { Contenders, Contest, Figures } from '../contest.ts';
import type { Group } from '../main.ts';

/** As many as a busy hub has on their way. */
const AT_ONCE = 500;
const BOUT_MS = 2_000;
/** About what an event of the fleet has. */
const Entry = v.strictObject({ type: v.string(), vm: v.string(), state: v.string(), number: v.number() });
type Entry = v.InferOutput<typeof Entry>;
const ENTRIES = defineLog('events', Entry);

const CONTEST: Contest = {
  name: 'store',
  figures: [
    {
      name: `acknowledged writes, ${AT_ONCE} at once`,
      key: 'writes',
      unit: '1/s',
      promise: { direction: 'at-least', kind: 'ratio', limit: 5 },
    },
  ],
  prepare,
};

export async function storeGroup(): Promise<Group> {
  return { measurements: [CONTEST], [Symbol.asyncDispose]: async () => {} };
}

async function prepare(): Promise<Contenders> {
  const directory = await mkdtemp(join(tmpdir(), 'flb-'));
  const store: Store = openSqliteStore(join(directory, 'hub.db'));
  const log = store.log(ENTRIES);
  await writesOf(log, AT_ONCE);
  return {
    bouts: { ours: () => writesOf(log, AT_ONCE), baseline: () => writesOf(log, 1) },
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function writesOf(log: Log<Entry>, writers: number): Promise<Figures> {
  let written = 0;
  const startedAt = performance.now();
  const write = async (): Promise<void> => {
    while (performance.now() - startedAt < BOUT_MS) {
      await log.append('host-00001', [{ type: 'vm.paused', vm: 'vm-1', state: 'paused', number: written }]);
      written += 1;
    }
  };
  await Promise.all(Array.from({ length: writers }, write));
  return { writes: written / ((performance.now() - startedAt) / 1000) };
}
