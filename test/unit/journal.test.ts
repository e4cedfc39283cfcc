import { mkdtemp, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { directoryFiles } from '../../agent/journal/files.ts';
import { encodeFrame } from '../../agent/journal/frame.ts';
import { JOURNAL_LIMITS, Journal, type JournalOptions } from '../../agent/journal/journal.ts';
import { newCommandId, timeOfCommandId } from '../../shared/command-id.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { journalObserver, MemoryFiles, testJournal } from '../support/journal-files.ts';
import { silent } from '../support/vm.ts';

const HOUR_MS = 3_600_000;
const START_MS = Date.parse('2026-01-01T00:00:00Z');

function accepted(id: string, more: Partial<Operation> = {}): Operation {
  return {
    id,
    method: 'vm.stop',
    host: 'edge-1',
    vm: 'web',
    state: 'accepted',
    acceptedAt: new Date(START_MS).toISOString(),
    paramsDigest: '0'.repeat(64),
    attempts: 1,
    ...more,
  };
}

function done(id: string, more: Partial<Operation> = {}): Operation {
  return accepted(id, { state: 'done', endedAt: new Date(START_MS).toISOString(), result: { n: id }, ...more });
}

/** A journal on a disk of its own, with a clock that the test sets. */
function setUp(limits: JournalOptions['limits'] = {}, files = new MemoryFiles()) {
  const { observer, told } = journalObserver();
  const clock = { nowMs: START_MS };
  const open = (on = files) => new Journal({ files: on, observer, logger: silent, limits, now: () => clock.nowMs });
  return { journal: open(), files, told, clock, open };
}

/** A full life: accepted and done. */
async function live(journal: Journal, id: string, more: Partial<Operation> = {}): Promise<void> {
  await journal.accept(accepted(id, { actor: more.actor }));
  await journal.finish(done(id, more));
}

describe('the journal', () => {
  it('gives back what it was given, also to a later agent', async () => {
    const { journal, open } = setUp();
    await live(journal, 'a');
    await journal.accept(accepted('b'));
    for (const one of [journal, open()]) {
      expect(await one.find('a')).toEqual(done('a'));
      expect(await one.find('b')).toEqual(accepted('b'));
      expect(await one.find('c')).toBeUndefined();
      expect(await one.unfinished()).toMatchObject([{ id: 'b' }]);
    }
  });

  it('says of a command that runs that it does, and of one of an earlier agent that it was accepted', async () => {
    const { journal, open } = setUp();
    await journal.accept(accepted('a'));
    journal.markRunning('a');
    expect(await journal.find('a')).toMatchObject({ state: 'running' });
    expect(await open().find('a')).toMatchObject({ state: 'accepted' });
  });

  it('says that a record is durable only once it is', async () => {
    const { journal, files } = setUp();
    const gate = Promise.withResolvers<void>();
    files.syncGate = gate.promise;
    let isSettled = false;
    const accepting = journal.accept(accepted('a')).then(() => (isSettled = true));
    for (let turn = 0; turn < 20; turn++) await setImmediate();
    expect(isSettled).toBe(false);
    gate.resolve();
    await accepting;
  });

  it('makes records that come together durable together', async () => {
    const { journal, told } = setUp();
    await journal.open();
    await Promise.all(Array.from({ length: 64 }, (_, n) => journal.accept(accepted(`c${n}`))));
    expect(told.records).toBe(64);
    expect(told.syncs).toBeLessThanOrEqual(2);
  });

  it('holds no file open, and has made none, while nothing is written', async () => {
    const { journal, files } = setUp();
    await journal.open();
    expect(files.image()).toEqual({});
    await live(journal, 'a');
    await setImmediate();
    expect(files.openFiles).toBe(0);
  });

  it('costs less than 2 KiB while it is at rest, as a fleet of thousands in one process needs it', async () => {
    setFlagsFromString('--expose_gc');
    const collect: () => void = runInNewContext('gc');
    const files = new MemoryFiles();
    const { observer } = journalObserver();
    const make = async (): Promise<Journal> => {
      const journal = new Journal({ files, observer, logger: silent });
      await journal.open();
      return journal;
    };
    await make();
    collect();
    const before = process.memoryUsage().heapUsed;
    const journals = await Promise.all(Array.from({ length: 2000 }, make));
    collect();
    expect((process.memoryUsage().heapUsed - before) / journals.length).toBeLessThan(2048);
  });

  it('lists the newest first, page after page', async () => {
    const { journal } = setUp();
    for (const [n, vm] of ['web', 'db', 'web', 'web'].entries()) {
      await journal.accept(accepted(`c${n}`, { vm, acceptedAt: new Date(START_MS + n).toISOString() }));
    }
    const first = await journal.list({ limit: 2, vm: 'web' });
    expect(first.operations.map(({ id }) => id)).toEqual(['c3', 'c2']);
    const rest = await journal.list({ limit: 2, vm: 'web', after: first.next });
    expect(rest).toEqual({ operations: [expect.objectContaining({ id: 'c0' })] });
    expect((await journal.list({ limit: 9, state: 'done' })).operations).toEqual([]);
  });
});

describe('what has ended', () => {
  it('is kept for a day, and then forgotten', async () => {
    const { journal, clock, open } = setUp();
    await live(journal, 'a');
    await journal.accept(accepted('b'));
    clock.nowMs += 24 * HOUR_MS;
    expect(await journal.find('a')).toBeDefined();
    clock.nowMs += 2 * HOUR_MS;
    for (const one of [journal, open()]) {
      expect(await one.find('a')).toBeUndefined();
      expect(await one.find('b')).toMatchObject({ state: 'accepted' });
      expect((await one.list({ limit: 9 })).operations).toMatchObject([{ id: 'b' }]);
    }
  });

  it('gives its id free, and its old record does not hide the new one from a later agent', async () => {
    const { journal, clock, open } = setUp();
    await live(journal, 'a');
    clock.nowMs += 26 * HOUR_MS;
    // Forgets what is old.
    const later = open();
    await later.accept(accepted('a'));
    expect(await open().unfinished()).toMatchObject([{ id: 'a' }]);
  });

  it('leaves no file behind, and what has not ended moves out of an old one', async () => {
    const { journal, clock, files, open } = setUp({ segmentBytes: 2_000 });
    await journal.accept(accepted('long'));
    for (let n = 0; n < 40; n++) await live(journal, `old${n}`);
    expect(Object.keys(files.image()).length).toBeGreaterThan(5);
    clock.nowMs += 26 * HOUR_MS;
    const endedAt = new Date(clock.nowMs).toISOString();
    // Enough for the next file.
    for (let n = 0; n < 8; n++) await live(journal, `new${n}`, { endedAt });
    await journal.close();
    expect(Object.keys(files.image()).length).toBeLessThan(6);
    for (const one of [journal, open()]) {
      expect(await one.find('long')).toMatchObject({ state: 'accepted' });
      expect(await one.find('new7')).toMatchObject({ state: 'done' });
      expect(await one.find('old3')).toBeUndefined();
    }
  });

  it('does not come back when a crash hits the compaction', async () => {
    const { journal, clock, files, open } = setUp({ segmentBytes: 1_000 });
    await journal.accept(accepted('long'));
    for (let n = 0; n < 10; n++) await live(journal, `old${n}`);
    clock.nowMs += 26 * HOUR_MS;
    files.faults = [{ on: 'remove', code: 'EIO' }];
    await live(journal, 'new', { endedAt: new Date(clock.nowMs).toISOString() });
    await journal.close();
    files.faults = [];
    const later = open(files.crash(() => 0));
    expect(await later.find('long')).toMatchObject({ state: 'accepted' });
    expect(await later.find('old3')).toBeUndefined();
    expect(await later.unfinished()).toMatchObject([{ id: 'long' }]);
  });
});

describe('a journal that is full', () => {
  it('of what is under way accepts no further command, and goes on when one has ended', async () => {
    const { journal } = setUp({ maxOperations: 2 });
    await journal.accept(accepted('a'));
    await journal.accept(accepted('b'));
    await expect(journal.accept(accepted('c'))).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      message: expect.stringContaining('under way: 2 of 2'),
      details: { operations: 2, maxOperations: 2 },
    });
    expect(await journal.absenceOf('c')).toBeUndefined();
    await journal.finish(done('a'));
    await journal.accept(accepted('c'));
  });

  it('forgets the oldest that has ended, tells of it, and says so of a repeat for a day, to later agents too', async () => {
    const { journal, clock, open, told } = setUp({ maxOperations: 8 });
    const ids: string[] = [];
    for (let n = 0; n < 10; n++) {
      clock.nowMs += 1_000;
      ids.push(newCommandId(clock.nowMs));
      await live(journal, ids[n] ?? '');
    }
    expect(told.forgotten).toBe(2);
    for (const one of [journal, open()]) {
      expect(await one.absenceOf(ids[0] ?? '')).toBe('lack-of-room');
      expect(await one.absenceOf(ids[1] ?? '')).toBe('lack-of-room');
      expect(await one.absenceOf(newCommandId(clock.nowMs))).toBeUndefined();
      // No command of such an id was forgotten.
      expect(await one.absenceOf('my-own')).toBeUndefined();
    }
    expect(await journal.find(ids[1] ?? '')).toBeUndefined();
    expect(await journal.find(ids[2] ?? '')).toBeDefined();
    clock.nowMs += 26 * HOUR_MS;
    expect(await open().absenceOf(ids[0] ?? '')).toBeUndefined();
  });

  it('forgets those of whoever has the most, and of ids that tell no time the last', async () => {
    const { journal, clock } = setUp({ maxOperations: 8 });
    const nextId = () => newCommandId((clock.nowMs += 1_000));
    const quiet = [nextId(), nextId(), nextId()];
    for (const id of quiet) await live(journal, id, { actor: 'quiet' });
    await live(journal, 'own', { actor: 'noisy' });
    const noisy = Array.from({ length: 20 }, nextId);
    for (const id of noisy) await live(journal, id, { actor: 'noisy' });
    const kept = (await journal.list({ limit: 99 })).operations.map(({ id }) => id);
    expect(kept).toEqual(expect.arrayContaining([...quiet, 'own', noisy.at(-1) ?? '']));
    expect(kept.length).toBeLessThanOrEqual(8);
    expect(await journal.absenceOf('another')).toBeUndefined();
  });

  it('makes room once for many that come together, and lets in no more than fit', async () => {
    const { journal } = setUp({ maxOperations: 10 });
    for (let n = 0; n < 10; n++) await live(journal, `old${n}`);
    const results = await Promise.allSettled(Array.from({ length: 15 }, (_, n) => journal.accept(accepted(`new${n}`))));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
    expect(journal.usage.operations).toBe(10);
    expect((await journal.unfinished()).length).toBe(10);
  });

  it('forgets nothing that it could not note', async () => {
    const { journal, files, open } = setUp({ maxOperations: 2 });
    await live(journal, 'a');
    await live(journal, 'b');
    files.faults = [{ on: 'datasync', code: 'EIO' }];
    await expect(journal.accept(accepted('c'))).rejects.toMatchObject({ code: 'JOURNAL_FAILED' });
    expect(await journal.find('a')).toBeDefined();
    files.faults = [];
    await journal.accept(accepted('c'));
    for (const one of [journal, open()]) expect(await one.absenceOf('x')).toBe('lack-of-room');
  });

  it('of slips forgets those: they did nothing, and everybody else needs the room', async () => {
    const { journal } = setUp({ maxOperations: 3 });
    const refused = { state: 'failed', result: undefined, error: { code: 'WRONG_STATE', message: 'no' } } as const;
    await live(journal, 'a');
    for (const id of ['b', 'c']) {
      await journal.accept(accepted(id));
      await journal.finish(done(id, refused));
    }
    await journal.accept(accepted('d'));
    expect((await journal.list({ limit: 9 })).operations.map(({ id }) => id).sort()).toEqual(['a', 'd']);
  });

  it('knows what it has forgotten when the file in which that was noted is long gone', async () => {
    const { journal, clock, files, open } = setUp({ maxOperations: 8, maxBytes: 16_000, segmentBytes: 1_000 });
    const forgotten = newCommandId(clock.nowMs);
    await live(journal, forgotten);
    for (let n = 0; n < 7; n++) await journal.accept(accepted(newCommandId((clock.nowMs += 1_000))));
    const refused = { state: 'failed', result: undefined, error: { code: 'WRONG_STATE', message: 'no' } } as const;
    const refuse = () => live(journal, newCommandId((clock.nowMs += 1_000)), refused);
    await refuse();
    const before = Object.keys(files.image());
    // None of these is to be noted: they did nothing.
    for (let n = 0; n < 60; n++) await refuse();
    await journal.close();
    expect(Object.keys(files.image()).filter((name) => before.includes(name))).toEqual([]);
    expect(await open().absenceOf(forgotten)).toBe('lack-of-room');
    expect(await open().absenceOf(newCommandId(clock.nowMs))).toBeUndefined();
  });

  it('of bytes forgets and grows smaller, past damage too, which stays known', async () => {
    const limits = { maxBytes: 16_000, segmentBytes: 1_000 };
    const { journal, clock, files, open } = setUp(limits);
    await live(journal, 'rotten');
    for (let n = 0; n < 4; n++) await live(journal, newCommandId((clock.nowMs += 1_000)));
    const image = files.image();
    const [name = ''] = Object.keys(image).sort();
    const bytes = image[name] ?? Buffer.alloc(0);
    bytes[bytes.indexOf('"rotten"') + 1] = 0x58;
    const disk = MemoryFiles.of(image);
    const crowded = open(disk);
    for (let n = 0; n < 100; n++) {
      await live(crowded, newCommandId((clock.nowMs += 1_000)));
      expect(crowded.usage.bytes).toBeLessThan(limits.maxBytes + 2_000);
    }
    expect(Object.keys(disk.image())).not.toContain(name);
    expect(await open(disk).absenceOf('rotten')).toBe('damage');
    clock.nowMs += 26 * HOUR_MS;
    expect(await open(disk).absenceOf('rotten')).toBeUndefined();
  });
});

describe('a disk that fails', () => {
  it.each([
    ['is full', { on: 'write', code: 'ENOSPC', after: 30 }],
    ['cannot write', { on: 'write', code: 'EIO' }],
    ['cannot sync', { on: 'datasync', code: 'EIO' }],
    ['cannot make a file', { on: 'create', code: 'ENOSPC' }],
    ['cannot make a name durable', { on: 'syncNames', code: 'EIO' }],
  ] as const)('and %s refuses the command, and goes on when it can again', async (_, fault) => {
    for (const isFirst of [true, false]) {
      const { journal, files, open, told } = setUp(fault.on === 'create' || fault.on === 'syncNames' ? { segmentBytes: 1 } : {});
      if (!isFirst) await live(journal, 'before');
      files.faults = [fault];
      const refused = ['a', 'b', 'c'].map((id) => journal.accept(accepted(id)));
      for (const one of refused) {
        await expect(one).rejects.toMatchObject({ code: 'JOURNAL_FAILED', message: expect.stringContaining(fault.code) });
      }
      expect(told.writeFailures).toBeGreaterThan(0);
      expect(await journal.find('a')).toBeUndefined();
      files.faults = [];
      await live(journal, 'a');
      for (const one of [journal, open(), open(files.crash(() => 0))]) {
        expect(await one.find('a')).toMatchObject({ state: 'done' });
        expect(await one.find('b')).toBeUndefined();
        expect((await one.find('before'))?.id).toBe(isFirst ? undefined : 'before');
        expect(await one.absenceOf(newCommandId(START_MS))).toBeUndefined();
      }
      expect(files.openFiles).toBe(0);
    }
  });

  it('trusts no sync of a file after one that failed', async () => {
    const { journal, files } = setUp();
    await live(journal, 'a');
    files.faults = [{ on: 'datasync', code: 'EIO' }];
    await expect(journal.accept(accepted('b'))).rejects.toMatchObject({ code: 'JOURNAL_FAILED' });
    files.faults = [];
    await journal.accept(accepted('c'));
    expect(Object.keys(files.image()).sort()).toEqual(['00000001.journal', '00000002.journal']);
  });

  it('that cannot even cut back what it wrote leaves nothing that counts', async () => {
    const { journal, files, open } = setUp();
    await live(journal, 'a');
    files.faults = [
      { on: 'datasync', code: 'EIO' },
      { on: 'truncate', code: 'EIO' },
    ];
    await expect(journal.accept(accepted('b'))).rejects.toMatchObject({ code: 'JOURNAL_FAILED' });
    files.faults = [];
    await journal.accept(accepted('c'));
    expect(await open().unfinished()).toMatchObject([{ id: 'c' }]);
  });

  it('that takes a few bytes at a time loses none', async () => {
    const { journal, files, open } = setUp();
    files.maxWriteBytes = 7;
    await live(journal, 'a');
    expect(await open().find('a')).toEqual(done('a'));
  });

  it('that cannot be read refuses every command, and is asked again', async () => {
    const { files, open, journal } = setUp();
    await live(journal, 'a');
    files.faults = [{ on: 'read', code: 'EIO' }];
    const later = open();
    await expect(later.accept(accepted('b'))).rejects.toMatchObject({ code: 'JOURNAL_FAILED' });
    files.faults = [];
    await later.accept(accepted('b'));
    expect(await later.find('a')).toBeDefined();
  });
});

describe('damage', () => {
  const firstFile = '00000001.journal';

  it('in the middle is told, hides nothing behind it, and makes the commands of its time unknown', async () => {
    const { journal, files, clock, told, open } = setUp();
    const idAt = (ms: number) => newCommandId(START_MS + ms);
    await live(journal, 'a');
    clock.nowMs = START_MS + HOUR_MS;
    await live(journal, 'lost');
    clock.nowMs = START_MS + 2 * HOUR_MS;
    await live(journal, 'b');
    const image = files.image();
    const bytes = image[firstFile] ?? Buffer.alloc(0);
    // Both records of `lost`.
    for (let at = bytes.indexOf('"lost"'); at !== -1; at = bytes.indexOf('"lost"', at + 1)) bytes[at + 1] = 0x58;

    for (const later of [open(MemoryFiles.of(image)), open(MemoryFiles.of(image))]) {
      expect(await later.find('a')).toBeDefined();
      expect(await later.find('b')).toBeDefined();
      expect(await later.find('lost')).toBeUndefined();
      expect(await later.absenceOf('lost')).toBe('damage');
      expect(await later.absenceOf(idAt(HOUR_MS))).toBe('damage');
      expect(await later.absenceOf(idAt(3 * HOUR_MS))).toBeUndefined();
    }
    expect(told).toMatchObject({ losses: 2, tornTails: 0 });
    clock.nowMs += 26 * HOUR_MS;
    expect(await open(MemoryFiles.of(image)).absenceOf('lost')).toBeUndefined();
  });

  it('of the last record, whole but wrong, is a loss and no torn end: it may have been acknowledged', async () => {
    const { journal, files, told, open, clock } = setUp();
    await live(journal, 'a');
    await journal.accept(accepted('b'));
    const image = files.image();
    const bytes = image[firstFile] ?? Buffer.alloc(0);
    bytes[bytes.length - 3] = 0x58;
    const disk = MemoryFiles.of(image);
    const later = open(disk);
    expect(await later.absenceOf(newCommandId(START_MS))).toBe('damage');
    expect(told).toMatchObject({ losses: 1, tornTails: 0 });
    clock.nowMs += HOUR_MS;
    await live(later, 'c');
    // What is written now goes into another file, so that the damage is known to later agents too.
    expect(Object.keys(disk.image()).sort()).toEqual([firstFile, '00000002.journal']);
    const latest = open(disk);
    expect(await latest.find('c')).toBeDefined();
    expect(await latest.absenceOf(newCommandId(START_MS))).toBe('damage');
    expect(await latest.absenceOf(newCommandId(clock.nowMs + HOUR_MS))).toBeUndefined();
  });

  it('by which a whole file is gone is a loss too', async () => {
    const { journal, files, told, open } = setUp({ segmentBytes: 500 });
    for (let n = 0; n < 8; n++) await journal.accept(accepted(`c${n}`));
    const image = files.image();
    const [, middle = ''] = Object.keys(image).sort();
    delete image[middle];
    const later = open(MemoryFiles.of(image));
    expect(await later.absenceOf(newCommandId(START_MS))).toBe('damage');
    expect(told.losses).toBe(1);
  });

  it('is never an older state of a command: what was found not done is not run again on the word of an old record', async () => {
    const { journal, files, open } = setUp();
    await live(journal, 'a');
    await live(journal, 'b');
    const image = files.image();
    const bytes = image[firstFile] ?? Buffer.alloc(0);
    bytes[bytes.length - 3] = 0x58;
    expect(await open(MemoryFiles.of(image)).absenceOf('a', START_MS)).toBe('damage');
  });

  it('stops no agent from reading what a newer one wrote, but is no reading either', async () => {
    const header = { at: START_MS, kind: 'segment', format: 2, number: 1, previousBytes: null };
    const files = MemoryFiles.of({ [firstFile]: encodeFrame(Buffer.from(JSON.stringify(header))) });
    await expect(testJournal({ files }).open()).rejects.toMatchObject({
      code: 'JOURNAL_FAILED',
      message: expect.stringContaining('format 2'),
    });
  });
});

describe('on a real disk', () => {
  it('its files are nobody else’s, and a torn end is cut', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-journal-'));
    const { observer, told } = journalObserver();
    const files = directoryFiles(join(directory, 'journal'));
    const open = () => new Journal({ files, observer, logger: silent, now: () => START_MS });
    try {
      await live(open(), 'a');
      const path = join(directory, 'journal', '00000001.journal');
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      expect((await stat(join(directory, 'journal'))).mode & 0o777).toBe(0o700);
      await truncate(path, (await stat(path)).size - 1);
      const later = open();
      expect(await later.unfinished()).toMatchObject([{ id: 'a' }]);
      await later.finish(done('a'));
      expect(await open().find('a')).toEqual(done('a'));
      expect(told).toMatchObject({ tornTails: 1, losses: 0 });
      expect(await readdir(join(directory, 'journal'))).toEqual(['00000001.journal']);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('keeps for longer than it promises', () => {
    expect(JOURNAL_LIMITS.keepMs).toBeGreaterThan(24 * HOUR_MS);
  });
});

describe('a command id', () => {
  it('is a UUID of version 7 that tells its time', () => {
    const id = newCommandId(START_MS);
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(timeOfCommandId(id)).toBe(START_MS);
    expect(timeOfCommandId('my-own-id')).toBeUndefined();
    expect(new Set(Array.from({ length: 100 }, () => newCommandId(START_MS))).size).toBe(100);
  });
});
