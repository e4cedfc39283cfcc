/** The disk that simulated hosts share: what a journal was told is durable is on it, in one sync for all. */
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
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
