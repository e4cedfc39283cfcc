import { mkdtemp, readdir, rm, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { directoryFiles } from '../../agent/journal/files.ts';
import { encodeFrame } from '../../agent/journal/frame.ts';
import { JOURNAL_LIMITS, Journal } from '../../agent/journal/journal.ts';
import { newCommandId, timeOfCommandId } from '../../shared/command-id.ts';
import { accepted, done, HOUR_MS, journalOf, live, START_MS } from '../support/journal-commands.ts';
import { journalObserver, MemoryFiles, testJournal } from '../support/journal-files.ts';
import { silent } from '../support/vm.ts';

describe('the journal', () => {
  it('gives back what it was given, also to a later agent', async () => {
    const { journal, open } = journalOf();
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
    const { journal, open } = journalOf();
    await journal.accept(accepted('a'));
    journal.markRunning('a');
    expect(await journal.find('a')).toMatchObject({ state: 'running' });
    expect(await open().find('a')).toMatchObject({ state: 'accepted' });
  });

  it('says that a record is durable only once it is', async () => {
    const { journal, files } = journalOf();
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
    const { journal, told } = journalOf();
    await journal.open();
    await Promise.all(Array.from({ length: 64 }, (_, n) => journal.accept(accepted(`c${n}`))));
    expect(told.records).toBe(64);
    expect(told.syncs).toBeLessThanOrEqual(2);
  });

  it('holds no file open, and has made none, while nothing is written', async () => {
    const { journal, files } = journalOf();
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
    const { journal } = journalOf();
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
    const { journal, clock, open } = journalOf();
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
    const { journal, clock, open } = journalOf();
    await live(journal, 'a');
    clock.nowMs += 26 * HOUR_MS;
    // Forgets what is old.
    const later = open();
    await later.accept(accepted('a'));
    expect(await open().unfinished()).toMatchObject([{ id: 'a' }]);
  });

  it('leaves no file behind, and what has not ended moves out of an old one', async () => {
    const { journal, clock, files, open } = journalOf({ segmentBytes: 2_000 });
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
    const { journal, clock, files, open } = journalOf({ segmentBytes: 1_000 });
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

describe('a disk that fails', () => {
  it.each([
    ['is full', { on: 'write', code: 'ENOSPC', after: 30 }],
    ['cannot write', { on: 'write', code: 'EIO' }],
    ['cannot sync', { on: 'datasync', code: 'EIO' }],
    ['cannot make a file', { on: 'create', code: 'ENOSPC' }],
    ['cannot make a name durable', { on: 'syncNames', code: 'EIO' }],
  ] as const)('and %s refuses the command, and goes on when it can again', async (_, fault) => {
    for (const isFirst of [true, false]) {
      const { journal, files, open, told } = journalOf(
        fault.on === 'create' || fault.on === 'syncNames' ? { segmentBytes: 1 } : {},
      );
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
    const { journal, files } = journalOf();
    await live(journal, 'a');
    files.faults = [{ on: 'datasync', code: 'EIO' }];
    await expect(journal.accept(accepted('b'))).rejects.toMatchObject({ code: 'JOURNAL_FAILED' });
    files.faults = [];
    await journal.accept(accepted('c'));
    expect(Object.keys(files.image()).sort()).toEqual(['00000001.journal', '00000002.journal']);
  });

  it('that cannot even cut back what it wrote leaves nothing that counts', async () => {
    const { journal, files, open } = journalOf();
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
    const { journal, files, open } = journalOf();
    files.maxWriteBytes = 7;
    await live(journal, 'a');
    expect(await open().find('a')).toEqual(done('a'));
  });

  it('that cannot be read refuses every command, and is asked again', async () => {
    const { files, open, journal } = journalOf();
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
    const { journal, files, clock, told, open } = journalOf();
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
    const { journal, files, told, open, clock } = journalOf();
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
    const { journal, files, told, open } = journalOf({ segmentBytes: 500 });
    for (let n = 0; n < 8; n++) await journal.accept(accepted(`c${n}`));
    const image = files.image();
    const [, middle = ''] = Object.keys(image).sort();
    delete image[middle];
    const later = open(MemoryFiles.of(image));
    expect(await later.absenceOf(newCommandId(START_MS))).toBe('damage');
    expect(told.losses).toBe(1);
  });

  it('is never an older state of a command: what was found not done is not run again on the word of an old record', async () => {
    const { journal, files, open } = journalOf();
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
