/**
 * The hub's store on disks that are full, fail or write half, and in processes that are killed: what was answered is there, what was refused
 * is not, and it goes on when the disk does.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { backupStore, restoreStore } from '../../hub/store/backup.ts';
import { Leases } from '../../hub/store/lease.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { defineCollection, defineLog, type Store } from '../../hub/store/store.ts';

const WRITER = fileURLToPath(new URL('../support/programs/store-writer.ts', import.meta.url));
const FAULTY_DISK = fileURLToPath(new URL('../support/faulty-disk.c', import.meta.url));
const LOG = defineLog('rollout_log', v.number());
const RECORDS = defineCollection('tags', v.number());

async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), 'store-faults-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

interface Said {
  readonly acknowledged: number[];
  readonly failed: number[];
  readonly codes: Set<string>;
  readonly rest: Map<string, string>;
}

/** What a writer has said until it ended, or until `onLine` ended it. */
async function heard(child: ChildProcess, onLine: (acknowledged: number) => void = () => {}): Promise<Said> {
  const said: Said = { acknowledged: [], failed: [], codes: new Set(), rest: new Map() };
  const closed = once(child, 'close');
  for await (const line of createInterface({ input: child.stdout ?? process.stdin })) {
    const [word = '', value = '', code = ''] = line.split(' ');
    if (word === 'ack') onLine(said.acknowledged.push(Number(value)));
    else if (word === 'fail') said.failed.push(Number(value));
    else said.rest.set(word, value);
    if (code !== '') said.codes.add(code);
  }
  await closed;
  return said;
}

async function kept(store: Store) {
  const entries = await store.log(LOG).read();
  const records = await store.collection(RECORDS).list();
  return {
    entries: new Set(entries.map(({ value }) => value)),
    records: new Set(records.map(({ value }) => value)),
    inOrder: entries.every(({ seq }, index) => seq === index + 1),
  };
}

const missing = (numbers: readonly number[], from: ReadonlySet<number>) => numbers.filter((number) => !from.has(number));
const present = (numbers: readonly number[], in_: ReadonlySet<number>) => numbers.filter((number) => in_.has(number));

describe("the hub's store", () => {
  it('has all that was answered when its process is killed in the middle', async () => {
    await using directory = await temporaryDirectory();
    for (const round of [1, 2, 3]) {
      const path = join(directory.path, `${round}.db`);
      const child = spawn(process.execPath, [WRITER, path, '60'], { stdio: ['ignore', 'pipe', 'inherit'] });
      const said = await heard(child, (count) => {
        if (count === round * 300) child.kill('SIGKILL');
      });
      const store = openSqliteStore(path);
      const { entries, records, inOrder } = await kept(store);
      await store.close();
      expect(said.acknowledged.length).toBeGreaterThanOrEqual(round * 300);
      expect([missing(said.acknowledged, entries), missing(said.acknowledged, records), inOrder]).toEqual([[], [], true]);
    }
  });

  it('refuses what a full disk does not take, keeps what it took, and goes on when there is room', async () => {
    await using directory = await temporaryDirectory();
    const mount = join(directory.path, 'disk');
    await mkdir(mount);
    // A private mount namespace: the disk is gone with it, so that what it held is copied out.
    const script = [
      `mount -t tmpfs -o size=3m tmpfs ${mount}`,
      `head -c 1500000 /dev/zero > ${mount}/room`,
      `${process.execPath} ${WRITER} ${mount}/hub.db 0 300 ${mount}/room`,
      `cp ${mount}/hub.db* ${directory.path}/`,
    ].join(' && ');
    const child = spawn('unshare', ['-m', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const said = await heard(child);
    expect(said.codes).toEqual(new Set(['STORAGE_FAILED']));
    const store = openSqliteStore(join(directory.path, 'hub.db'));
    const { entries, records } = await kept(store);
    await store.close();
    expect([missing(said.acknowledged, entries), missing(said.acknowledged, records)]).toEqual([[], []]);
    expect([present(said.failed, entries), present(said.failed, records)]).toEqual([[], []]);
    const firstFailure = Math.min(...said.failed);
    expect(said.acknowledged.filter((number) => number > firstFailure).length).toBeGreaterThan(0);
  });

  it('does the same on a disk that fails, is full or writes half now and then', async () => {
    await using directory = await temporaryDirectory();
    const library = join(directory.path, 'faulty-disk.so');
    const compiled = spawnSync('cc', ['-shared', '-fPIC', '-o', library, FAULTY_DISK, '-ldl'], { encoding: 'utf8' });
    expect(compiled.stderr).toBe('');
    const path = join(directory.path, 'hub.db');
    const env = { ...process.env, LD_PRELOAD: library, FAULT_PATH: 'hub.db', FAULT_EVERY: '97' };
    const said = await heard(spawn(process.execPath, [WRITER, path, '3', '30'], { env, stdio: ['ignore', 'pipe', 'inherit'] }));
    expect(said.failed.length).toBeGreaterThanOrEqual(30);
    expect(said.codes).toEqual(new Set(['STORAGE_FAILED']));
    const store = openSqliteStore(path);
    const { entries, records, inOrder } = await kept(store);
    await store.close();
    expect([missing(said.acknowledged, entries), missing(said.acknowledged, records)]).toEqual([[], []]);
    expect([present(said.failed, entries), present(said.failed, records)]).toEqual([[], []]);
    expect(inOrder).toBe(true);
  });

  it('is copied while it is written to, and a hub that starts from the copy knows that it has another history', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'hub.db');
    const store = openSqliteStore(path);
    const leases = (of: Store, bootId: string) => new Leases({ store: of, hubId: 'h', bootId, ttlMs: 60_000, now: Date.now });
    expect(await leases(store, 'b1').take('rollout-1')).toBe(1);
    await store.collection(RECORDS).put('before', 1);
    const writing = { goesOn: true, answered: 0 };
    const append = async () => {
      await store.log(LOG).append('s', [writing.answered]);
      writing.answered += 1;
    };
    for (let count = 0; count < 50; count++) await append();
    const written = (async () => {
      while (writing.goesOn) await append();
    })();
    const copy = join(directory.path, 'copy.db');
    const before = writing.answered;
    await backupStore(path, copy);
    writing.goesOn = false;
    await written;
    await store.collection(RECORDS).put('after', 2);
    await store.close();
    await expect(backupStore(path, copy)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(() => restoreStore(copy, path)).toThrow(expect.objectContaining({ code: 'CONFLICT' }));

    const restoredPath = join(directory.path, 'restored.db');
    restoreStore(copy, restoredPath);
    const restored = openSqliteStore(restoredPath);
    expect((await restored.collection(RECORDS).list()).map(({ value }) => value)).toEqual([1]);
    const entries = await restored.log(LOG).read();
    expect(entries.length).toBeGreaterThanOrEqual(before);
    expect(entries.map(({ value }) => value)).toEqual(entries.map((_, index) => index));
    // A host may have seen any epoch that was taken after the copy.
    expect(await leases(restored, 'b2').take('rollout-1')).toBeGreaterThan(1_000_000);
    await restored.close();
  });

  it('is not started from a copy that is damaged', async () => {
    await using directory = await temporaryDirectory();
    const copy = join(directory.path, 'copy.db');
    await copyFile(WRITER, copy);
    expect(() => restoreStore(copy, join(directory.path, 'hub.db'))).toThrow(expect.objectContaining({ code: 'STORAGE_FAILED' }));
  });
});
