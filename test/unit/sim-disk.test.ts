/** The disk that simulated hosts share: what a journal was told is durable is on it, in one sync for all. */
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { encodeFrame } from '../../agent/journal/frame.ts';
import { Journal } from '../../agent/journal/journal.ts';
import { Fences } from '../../agent/rpc/fences.ts';
import { SharedDisk } from '../../agent/sim/shared-disk.ts';
import { accepted } from '../support/journal-commands.ts';
import { journalObserver } from '../support/journal-files.ts';
import { silent } from '../support/vm.ts';

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sim-disk-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const journalOf = (disk: SharedDisk, host: string): Journal =>
  new Journal({ files: disk.filesOf(host), observer: journalObserver().observer, logger: silent });

it('gives each host its own journal and fences back, also to a process that comes later', async () => {
  const path = join(directory, 'disk.log');
  {
    await using disk = await SharedDisk.open(path);
    await Promise.all(['a', 'b', 'c'].map((host) => journalOf(disk, host).accept(accepted(`of-${host}`))));
    await new Fences('fences of a', disk.textOf('a', 'fences.json')).admit({ scope: 'r1', epoch: 7 });
  }
  // A process that was killed in the middle of a write.
  await appendFile(path, Buffer.from([0, 0, 1, 0, 7]));
  await using disk = await SharedDisk.open(path);
  for (const host of ['a', 'b', 'c']) {
    const journal = journalOf(disk, host);
    expect((await journal.list({ limit: 10 })).operations.map(({ id }) => id)).toEqual([`of-${host}`]);
  }
  const late = new Fences('fences of a', disk.textOf('a', 'fences.json')).admit({ scope: 'r1', epoch: 6 });
  await expect(late).rejects.toMatchObject({ code: 'FENCED' });
});

it('holds what was written wherever it was, what was cut and removed, and more than fits one record', async () => {
  const path = join(directory, 'disk.log');
  const long = Buffer.alloc(300 * 1024, 'long');
  {
    await using disk = await SharedDisk.open(path);
    const files = disk.filesOf('a');
    const file = await files.create('1');
    await file.write(Buffer.from('abcdef'), 0);
    await file.write(Buffer.from('XY'), 1);
    await file.truncate(5);
    await file.write(Buffer.from('!'), 7);
    const other = await files.create('2');
    for (let done = 0; done < long.length; ) done += await other.write(long.subarray(done), done);
    await (await files.create('3')).write(Buffer.from('gone'), 0);
    await files.remove('3');
    await files.create('4');
    await files.syncNames();
    await expect(files.open('3')).rejects.toMatchObject({ code: 'ENOENT' });
  }
  // As the first process left it, and as the second wrote it anew.
  for (let time = 0; time < 2; time++) {
    await using disk = await SharedDisk.open(path);
    const files = disk.filesOf('a');
    expect((await files.list()).toSorted()).toEqual(['1', '2', '4']);
    expect((await files.read('1')).toString()).toBe('aXYde\0\0!');
    expect((await files.readAt('1', 1, 2)).toString()).toBe('XY');
    expect((await files.read('2')).equals(long)).toBe(true);
    expect((await files.read('4')).length).toBe(0);
    expect(await disk.filesOf('b').list()).toEqual([]);
  }
});

it('refuses one of another version', async () => {
  const path = join(directory, 'disk.log');
  await writeFile(path, encodeFrame(Buffer.from('{"do":"cut","file":"a/journal/1","at":0}')));
  await expect(SharedDisk.open(path)).rejects.toMatchObject({
    code: 'STORAGE_FAILED',
    message: expect.stringContaining('of another version'),
  });
});

it('says that it is damaged', async () => {
  const path = join(directory, 'disk.log');
  {
    await using disk = await SharedDisk.open(path);
    const journal = journalOf(disk, 'a');
    for (const id of ['one', 'two']) await journal.accept(accepted(id));
  }
  const rotten = await readFile(path);
  rotten[20] = (rotten[20] ?? 0) ^ 1;
  await writeFile(path, rotten);
  await expect(SharedDisk.open(path)).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
});
