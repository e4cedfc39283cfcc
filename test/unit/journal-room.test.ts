/** What a journal does that has more commands than room. */
import { describe, expect, it } from 'vitest';
import { newCommandId } from '../../shared/command-id.ts';
import { accepted, done, HOUR_MS, journalOf, live } from '../support/journal-commands.ts';
import { MemoryFiles } from '../support/journal-files.ts';

describe('a journal that is full', () => {
  it('of what is under way accepts no further command, and goes on when one has ended', async () => {
    const { journal } = journalOf({ maxOperations: 2 });
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
    const { journal, clock, open, told } = journalOf({ maxOperations: 8 });
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
    const { journal, clock } = journalOf({ maxOperations: 8 });
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

  it('of ids of a time to come takes some and keeps them, so that they push out nobody else', async () => {
    const { journal, clock, open } = journalOf({ maxOperations: 8 });
    const acceptedAt = new Date(clock.nowMs).toISOString();
    const ahead = Array.from({ length: 2 }, () => newCommandId(clock.nowMs + 1000 * 365 * 24 * HOUR_MS));
    for (const id of ahead) {
      await journal.accept(accepted(id, { acceptedAt, actor: 'mallory' }));
      await journal.finish(done(id, { acceptedAt, actor: 'mallory' }));
    }
    const another = accepted(newCommandId(clock.nowMs + HOUR_MS), { acceptedAt, actor: 'mallory' });
    for (const one of [journal, open()]) {
      await expect(one.accept(another)).rejects.toMatchObject({
        code: 'LIMIT_EXCEEDED',
        message: expect.stringContaining('2 commands whose ids are of a time to come'),
      });
    }
    for (let n = 0; n < 20; n++) {
      clock.nowMs += 1_000;
      const id = newCommandId(clock.nowMs);
      expect(await journal.absenceOf(id)).toBeUndefined();
      await live(journal, id, { actor: 'mallory' });
    }
    for (const id of ahead) expect(await journal.find(id)).toBeDefined();
  });

  it('makes room once for many that come together, and lets in no more than fit', async () => {
    const { journal } = journalOf({ maxOperations: 10 });
    for (let n = 0; n < 10; n++) await live(journal, `old${n}`);
    const results = await Promise.allSettled(Array.from({ length: 15 }, (_, n) => journal.accept(accepted(`new${n}`))));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
    expect(journal.usage.operations).toBe(10);
    expect((await journal.unfinished()).length).toBe(10);
  });

  it('forgets nothing that it could not note', async () => {
    const { journal, files, open } = journalOf({ maxOperations: 2 });
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
    const { journal } = journalOf({ maxOperations: 3 });
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
    const { journal, clock, files, open } = journalOf({ maxOperations: 8, maxBytes: 16_000, segmentBytes: 1_000 });
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
    const { journal, clock, files, open } = journalOf(limits);
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
