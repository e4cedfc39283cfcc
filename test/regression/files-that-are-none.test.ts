/**
 * Symptom: four calls that named a FIFO as a disk, and the agent could read and write no file any more, for good. A directory as a disk was
 * refused by QEMU alone, or as a fault of ours.
 * Cause: whoever opens a FIFO waits for its other end, in one of the four threads that Node has for files.
 */
import { execFileSync } from 'node:child_process';
import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import * as v from 'valibot';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesOfQcow2 } from '../../agent/vm/qcow2-files.ts';
import { checkFiles } from '../../agent/vm/spec-check.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';

let directory: string;
let fifo: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-files-'));
  fifo = join(directory, 'fifo.qcow2');
  execFileSync('mkfifo', [fifo]);
  mkdirSync(join(directory, 'directory.qcow2'));
  writeFileSync(join(directory, 'file'), '');
});
afterAll(async () => {
  // Lets go of a thread that waits at the FIFO, if one does.
  createWriteStream(fifo, { flags: 'r+' }).end();
  await rm(directory, { recursive: true });
});

const diskAt = (path: string): VmSpec => v.parse(VmSpec, { name: 'web', disks: [{ path }] });

test('a FIFO is not waited for, and a directory not read', async () => {
  expect(await filesOfQcow2(fifo)).toBeUndefined();
  expect(await filesOfQcow2(join(directory, 'directory.qcow2'))).toBeUndefined();
});

test.each([
  { path: 'fifo.qcow2', is: 'a FIFO' },
  { path: 'directory.qcow2', is: 'a directory' },
  { path: '/dev/null', is: 'a character device' },
])('$is is refused as a disk, as what it is', async ({ path, is }) => {
  const disk = resolve(directory, path);
  await expect(checkFiles(diskAt(disk))).rejects.toMatchObject({
    code: 'INVALID_PARAMS',
    message: expect.stringContaining(`which is ${is}: it has to be a file or block device`),
    details: { field: 'disks[0].path', path: disk },
  });
});

test('a kernel has to be a file', async () => {
  const spec = v.parse(VmSpec, { name: 'web', boot: { kernel: directory } });
  await expect(checkFiles(spec)).rejects.toMatchObject({ details: { field: 'boot.kernel' } });
  await checkFiles(v.parse(VmSpec, { name: 'web', boot: { kernel: join(directory, 'file') } }));
});
