/** Logs that another process writes, rolled and read at the same time. */
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LogKeeper } from '../../agent/vm/logs/log-keeper.ts';
import { type LogRequest, openLog } from '../../agent/vm/logs/vm-logs.ts';
import { FairleadError } from '../../shared/errors.ts';
import { silent } from '../support/vm.ts';

const SEGMENT = 64 * 1024;
const MAX = 4 * SEGMENT;

let directory: string;
let path: string;
let keeper: LogKeeper;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-log-'));
  path = join(directory, 'logs', 'console.log');
  await mkdir(join(directory, 'logs'));
  keeper = new LogKeeper({ paths: () => [path], logger: silent, maxBytes: MAX, segmentBytes: SEGMENT });
});
afterEach(async () => {
  keeper[Symbol.dispose]();
  await rm(directory, { recursive: true, force: true });
});

const open = async (request: Partial<LogRequest> = {}) => {
  const vms = { openLog: () => keeper.open(path) };
  return openLog(vms, { vm: 'web', source: 'console', tail: {}, follow: false, ...request });
};
const read = async (tail: LogRequest['tail'] = {}) => text((await open({ tail })).stream);
const lines = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, index) => `line ${from + index}\n`).join('');

describe('a log that is rolled while it is written', () => {
  const COUNT = 100_000;

  it('loses and doubles no byte, and the one who follows it gets each once', { timeout: 60_000 }, async () => {
    // As QEMU has it open, which writes whenever the guest does: also while a roll is under way.
    const writer = openSync(path, 'a');
    const { stream } = await open({ follow: true });
    const expected = lines(0, COUNT);
    let got = '';
    let rolls = 0;
    const following = (async () => {
      for await (const chunk of stream) {
        got += String(chunk);
        if (got.length >= expected.length) break;
      }
    })();
    let rolling = Promise.resolve();
    for (let at = 0; at < expected.length; at += 1_000) {
      if (fstatSync(writer).size > MAX) {
        rolling = keeper.look();
        rolls += 1;
      }
      for (let byte = at; byte < at + 1_000; byte += 100) writeSync(writer, expected.slice(byte, byte + 100));
      do await setImmediate();
      while (at - got.length > MAX / 2);
    }
    await following;
    await rolling;
    closeSync(writer);
    expect(got === expected, 'what was followed is what was written').toBe(true);
    expect(rolls).toBeGreaterThan(2);
    await keeper.look();
    const kept = (await readFile(`${path}.1`, 'utf8')) + (await readFile(path, 'utf8'));
    expect(kept.length).toBeGreaterThan(MAX);
    expect(kept === expected.slice(-kept.length), 'what is kept is the end of it, without a hole').toBe(true);
    expect(await read()).toBe(kept);
  });

  it('is read by whoever was slow, as long as it is kept; and who is slower than that is told', async () => {
    const all = lines(0, 100_000);
    await writeFile(path, all.slice(0, SEGMENT));
    const [slow, slower] = [await open({ follow: true }), await open({ follow: true })];
    slow.stream.read(0);
    slower.stream.read(0);
    await appendFile(path, all.slice(SEGMENT, MAX + 100));
    await keeper.look();
    let got = '';
    for await (const chunk of slow.stream) {
      got += String(chunk);
      if (got.length === MAX + 100) break;
    }
    expect(got === all.slice(0, MAX + 100)).toBe(true);
    for (let at = MAX + 100; at < 3 * MAX; at += SEGMENT) {
      await appendFile(path, all.slice(at, at + SEGMENT));
      await keeper.look();
    }
    await expect(buffer(slower.stream)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      message: expect.stringContaining('fell behind'),
    });
  });

  it('that an agent left half rolled is neither doubled nor lost', async () => {
    const all = lines(0, 40_000);
    await writeFile(path, all);
    // Killed after the copy and before the beginning was taken out.
    await writeFile(`${path}.1`, all.slice(0, SEGMENT));
    await keeper.look();
    const kept = (await readFile(`${path}.1`, 'utf8')) + (await readFile(path, 'utf8'));
    expect(kept === all.slice(-kept.length)).toBe(true);
    expect((await stat(path)).size).toBeLessThanOrEqual(MAX);
  });

  it('is cut where its file system cannot do better, and that is told', async () => {
    const told: string[] = [];
    const warn = (_fields: object, message: string) => void told.push(message);
    // A length that no file system takes out.
    using odd = new LogKeeper({ paths: () => [path], logger: { ...silent, warn }, maxBytes: 1000, segmentBytes: 333 });
    await writeFile(path, lines(0, 500));
    await odd.look();
    expect(told).toEqual([expect.stringContaining('what was written in this very moment is lost')]);
    expect(await readFile(`${path}.1`, 'utf8')).toBe(lines(0, 500));
    expect((await stat(path)).size).toBe(0);
  });

  it('that somebody else cut is gone on with at its new beginning', async () => {
    await writeFile(path, 'old\n');
    const { stream } = await open({ follow: true });
    const chunks = stream[Symbol.asyncIterator]();
    expect(String((await chunks.next()).value)).toBe('old\n');
    await truncate(path, 0);
    // Seen as cut before it is longer again.
    await using inUse = await keeper.open(path);
    await inUse.log.extent();
    await appendFile(path, 'new\n');
    expect(String((await chunks.next()).value)).toBe('new\n');
    stream.destroy();
  });
});

describe('a log that is read', () => {
  it('has its end by lines and by bytes, over the border of its files too', async () => {
    const all = lines(0, 2000);
    await writeFile(`${path}.1`, all.slice(0, 10_000));
    await writeFile(path, all.slice(10_000));
    expect(await read()).toBe(all);
    for (const count of [0, 1, 2, 1000, 1999, 2000, 5000])
      expect(await read({ lines: count })).toBe(lines(Math.max(0, 2000 - count), 2000));
    expect(await read({ bytes: 20 })).toBe(lines(1998, 2000));
    expect(await read({ bytes: 19 })).toBe(lines(1999, 2000));
    expect(await read({ bytes: 9 }), 'not a whole line is better than nothing').toBe('ine 1999\n');
    await appendFile(path, 'no end');
    expect(await read({ lines: 2 })).toBe('line 1999\nno end');
    expect(await read({ lines: 1 })).toBe('no end');
  });

  it('says how much of it was there before', async () => {
    await writeFile(path, lines(0, 10));
    const { stream, historyBytes } = await open({ tail: { lines: 2 }, follow: true });
    expect(historyBytes).toBe(lines(8, 10).length);
    stream.destroy();
  });

  it('is empty while there is none, and begins when there is one', async () => {
    expect(await read()).toBe('');
    const { stream } = await open({ follow: true });
    const first = once(stream, 'data');
    await writeFile(path, 'hello\n');
    expect(String((await first)[0])).toBe('hello\n');
    stream.destroy();
  });

  it('ends with its removal, whole, and the next of its name is another', async () => {
    await writeFile(path, 'last words\n');
    const { stream } = await open({ follow: true });
    const all = text(stream);
    await rm(join(directory, 'logs'), { recursive: true });
    expect(await all).toBe('last words\n');
    await mkdir(join(directory, 'logs'));
    await writeFile(path, 'another\n');
    expect(await read()).toBe('another\n');
  });

  it('ends, after all that was written, with what it was tied to; or breaks when the agent leaves', async () => {
    await writeFile(path, 'one\n');
    for (const [reason, outcome] of [
      [new FairleadError('WRONG_STATE', 'gone'), 'ended'],
      [new FairleadError('INTERRUPTED', 'leaving'), 'INTERRUPTED'],
    ] as const) {
      const end = new AbortController();
      const { stream } = await open({ follow: true, end: end.signal });
      const all = text(stream).then(
        (whole) => (whole.endsWith('two\n') ? 'ended' : whole),
        (error: FairleadError) => error.code,
      );
      await appendFile(path, 'two\n');
      end.abort(reason);
      expect(await all).toBe(outcome);
    }
  });
});
