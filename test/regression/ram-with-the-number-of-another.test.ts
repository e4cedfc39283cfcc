/**
 * The RAM file of a guest that sleeps was known again by its size and its inode's number. ext4 gives the number of a file that was removed
 * to the next one, so a file that was put in its place passed for it, and the guest would have gone on with memory of somebody else.
 */
import { mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkRamFiles, identifyRamFiles } from '../../agent/vm/snapshot/ram-file.ts';
import { spec } from '../support/vm.ts';

const MIB = 1024 ** 2;

test('a file in the place of the RAM is another one, also where it has the same number', async ({ skip, onTestFinished }) => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-number-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const paths = { ramFile: join(directory, 'web.ram'), addedRamFile: join(directory, 'web.ram-added') };
  const { ramFile } = paths;
  const make = async (): Promise<void> => {
    await rm(ramFile, { force: true });
    await writeFile(ramFile, '');
    await truncate(ramFile, 64 * MIB);
  };
  const madeAt = async (): Promise<bigint> => (await stat(ramFile, { bigint: true })).birthtimeNs;
  await make();
  const before = await madeAt();
  if (before === 0n) return skip('the file system does not tell when a file was made');
  const saved = await identifyRamFiles(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }), paths);
  await expect(checkRamFiles('web', saved)).resolves.toBeUndefined();

  // File systems count in ticks of the kernel's clock.
  while ((await madeAt()) === before) await make();
  const { ino } = await stat(ramFile, { bigint: true });
  const reused = saved.map((file) => ({ ...file, inode: String(ino) }));
  await expect(checkRamFiles('web', reused)).rejects.toMatchObject({
    code: 'WRONG_STATE',
    message: expect.stringContaining(`is another file: ${ramFile}`),
  });
});
