/** The hub's store against a disk that rots: what was answered is there and as it was, or the damage is told. */
import { spawn } from 'node:child_process';
import { copyFile, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import * as v from 'valibot';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { defineCollection, defineLog } from '../../hub/store/store.ts';
import { damageIn } from '../../hub/store/wal-check.ts';

const WRITER = fileURLToPath(new URL('../support/programs/store-writer.ts', import.meta.url));
const LOG = defineLog('rollout_log', v.number());
const RECORDS = defineCollection('tags', v.number());
/** Answered before the writer is killed. */
const WANTED = 1500;

let directory = '';
let acknowledged: ReadonlySet<number> = new Set();

/** A store that a killed hub left behind: some of it in the file, the rest in its write-ahead log. */
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'store-rot-'));
  const child = spawn(process.execPath, [WRITER, join(directory, 'hub.db'), '60'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const numbers = new Set<number>();
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, value] = line.split(' ');
    if (word === 'ack') numbers.add(Number(value));
    if (numbers.size === WANTED) child.kill('SIGKILL');
  }
  acknowledged = numbers;
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** What a hub finds in a copy that was changed: everything, or the code and the words of the damage. */
async function foundIn(change: (path: string) => Promise<void>): Promise<'told' | { lost: number[]; wrong: number[] }> {
  const path = join(directory, 'rotten.db');
  for (const suffix of ['', '-wal', '-shm', '-lock']) await rm(`${path}${suffix}`, { force: true });
  for (const suffix of ['', '-wal']) await copyFile(join(directory, `hub.db${suffix}`), `${path}${suffix}`);
  await change(path);
  let store: ReturnType<typeof openSqliteStore> | undefined;
  try {
    store = openSqliteStore(path);
    const entries = await store.log(LOG).read();
    const records = await store.collection(RECORDS).list();
    const inLog = new Set(entries.map(({ value }) => value));
    const inRecords = new Set(records.map(({ value }) => value));
    return {
      lost: [...acknowledged].filter((number) => !inLog.has(number) || !inRecords.has(number)),
      wrong: [...inLog, ...inRecords].filter((number) => !Number.isSafeInteger(number) || number < 0 || number > 100_000),
    };
  } catch {
    return 'told';
  } finally {
    await store?.close();
  }
}

async function flip(path: string, at: number, mask: number): Promise<void> {
  await using file = await open(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ mask;
  await file.write(byte, 0, 1, at);
}

const WHOLE = { lost: [], wrong: [] };
const mask = fc.nat(7).map((bit) => 1 << bit);
/** Where in a file, as a share of its length. */
const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

const step = fc.record({
  key: fc.constantFrom('a', 'b'),
  kind: fc.constantFrom('put', 'remove', 'modify', 'read', 'list', 'wait'),
  turns: fc.integer({ min: 0, max: 2 }),
});

describe('a record that is written and read by many at once', () => {
  it.each([false, true])(
    'is as it was written last, and never as it was before that (held: %s)',
    { timeout: 60_000 },
    async (isHeld) => {
      const path = join(directory, `many-${isHeld}.db`);
      const store = openSqliteStore(path);
      const records = store.collection(defineCollection('tags', v.number(), { isHeld }));
      using file = new DatabaseSync(path, { readOnly: true });
      const inFile = file.prepare('SELECT value FROM tags ORDER BY key');
      let last = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
          await Promise.all([records.discard('a'), records.discard('b')]);
          const expected = new Map<string, number>();
          const writes: Promise<unknown>[] = [];
          for (const { key, kind, turns } of steps) {
            last += 1;
            const value = last;
            if (kind === 'put') writes.push(records.put(key, value));
            if (kind === 'remove') writes.push(records.discard(key));
            if (kind === 'modify') writes.push(records.modify(key, () => value));
            if (kind === 'read') writes.push(records.get(key));
            if (kind === 'list') writes.push(records.list());
            if (kind === 'wait') await Promise.all(writes);
            if (kind === 'put' || (kind === 'modify' && expected.has(key))) expected.set(key, value);
            if (kind === 'remove') expected.delete(key);
            for (let turn = 0; turn < turns; turn++) await setImmediate();
          }
          await Promise.all(writes);
          for (const key of ['a', 'b']) expect((await records.get(key))?.value).toBe(expected.get(key));
          const values = ['a', 'b'].flatMap((key) => expected.get(key) ?? []);
          expect((await records.list()).map(({ value }) => value)).toEqual(values);
          // What is told from memory is what the file says; there each has its checksum behind it.
          expect(inFile.all().map(({ value }) => Number.parseInt(String(value), 10))).toEqual(values);
        }),
        { numRuns: 40 },
      );
      await store.close();
    },
  );
});

describe("the hub's store", () => {
  it('is whole after a kill, with its log and with the file taken over from it', async () => {
    expect((await stat(join(directory, 'hub.db-wal'))).size).toBeGreaterThan(100_000);
    expect(await foundIn(async () => {})).toEqual(WHOLE);
  });

  it('of whose write-ahead log any bit was flipped has all of it, or says that it is damaged', async () => {
    const { size } = await stat(join(directory, 'hub.db-wal'));
    const log = await readFile(join(directory, 'hub.db-wal'));
    const lastTwo = endsOfCommits(log).at(-3) ?? 0;
    await fc.assert(
      fc.asyncProperty(share, mask, async (where, bits) => {
        const at = Math.floor(where * size);
        const found = await foundIn((path) => flip(`${path}-wal`, at, bits));
        // Of the very last transaction, damage looks like a write that was cut short.
        const mayLose = at >= lastTwo && found !== 'told' && found.wrong.length === 0;
        expect(found === 'told' || mayLose ? WHOLE : found).toEqual(WHOLE);
      }),
      { numRuns: 40 },
    );
  });

  it('of whose file any bit was flipped has all of it, or says that it is damaged', async () => {
    // Taken over from the log, so that all is in the file.
    const path = join(directory, 'hub.db');
    await openSqliteStore(path).close();
    await writeFile(`${path}-wal`, '');
    const { size } = await stat(path);
    let told = 0;
    await fc.assert(
      fc.asyncProperty(share, mask, async (where, bits) => {
        const found = await foundIn((copy) => flip(copy, Math.floor(where * size), bits));
        if (found === 'told') told += 1;
        expect(found === 'told' ? WHOLE : found).toEqual(WHOLE);
      }),
      { numRuns: 150 },
    );
    expect(told).toBeGreaterThan(0);
  });
});

describe('the check of a write-ahead log', () => {
  it('takes any torn end for what it is, and finds damage before the last transaction', async () => {
    const path = join(directory, 'torn.db');
    const store = openSqliteStore(path);
    const records = store.collection(RECORDS);
    for (let number = 0; number < 6; number++) await records.put(String(number), number);
    const log = Buffer.from(await readFile(`${path}-wal`));
    await store.close();
    expect(damageIn(log)).toBeUndefined();
    for (let bytes = 0; bytes <= log.length; bytes += 97) expect(damageIn(Buffer.from(log.subarray(0, bytes)))).toBeUndefined();
    const ends = endsOfCommits(log);
    const lastBegins = ends.at(-2) ?? 0;
    for (let at = 32; at < lastBegins; at += 512) {
      const rotten = Buffer.from(log);
      rotten[at + 24] = (rotten[at + 24] ?? 0) ^ 1;
      expect(damageIn(rotten), `byte ${at + 24} of ${log.length}`).toBeTypeOf('number');
    }
    await truncate(path, 0);
  });
});

/** By the frames' own word. */
function endsOfCommits(log: Buffer): number[] {
  const frameBytes = 24 + log.readUInt32BE(8);
  const ends: number[] = [];
  for (let at = 32; at + frameBytes <= log.length; at += frameBytes) {
    const isOfThisLog = log.subarray(at + 8, at + 16).equals(log.subarray(16, 24));
    if (isOfThisLog && log.readUInt32BE(at + 4) !== 0) ends.push(at + frameBytes);
  }
  return ends;
}
