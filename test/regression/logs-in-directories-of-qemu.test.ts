/**
 * Symptom: a QEMU that a guest had broken out of could have the agent cut or overwrite any file of the host, or hang.
 * Cause: logs lie in a directory that belongs to QEMU where it runs as a user of its own, and were opened wherever their names led.
 */
import { execFileSync } from 'node:child_process';
import { lstat, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sizeOf, tailOf } from '../../agent/vm/logs/log-file.ts';
import { LogKeeper } from '../../agent/vm/logs/log-keeper.ts';
import { openPlain } from '../../agent/vm/logs/plain-file.ts';
import { VmStore } from '../../agent/vm/store.ts';

let directory: string;
let secret: string;
let log: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-logs-'));
  secret = join(directory, 'secret');
  log = join(directory, 'log');
  await writeFile(secret, 'x'.repeat(100));
});
afterEach(() => rm(directory, { recursive: true }));

async function cut(): Promise<string[]> {
  const warnings: string[] = [];
  const warn = (_fields: object, message: string) => void warnings.push(message);
  using keeper = new LogKeeper({
    paths: () => [log],
    maxBytes: 8192,
    segmentBytes: 4096,
    logger: { debug() {}, info() {}, warn, error() {} },
  });
  await keeper.look();
  return warnings;
}

describe('where a link stands for a log', () => {
  test('nothing behind it is cut, read or written', async () => {
    await symlink(secret, log);
    expect(await cut()).toEqual(['could not roll a log that has grown too long']);
    expect(tailOf(log)).toBe('');
    expect(sizeOf(log)).toBe(0);
    await expect(openPlain(log, 'append')).rejects.toMatchObject({ code: 'ELOOP' });
    expect(await readFile(secret, 'utf8')).toBe('x'.repeat(100));
  });

  test('nor where it stands for what is kept of one', async () => {
    await writeFile(log, 'y'.repeat(10_000));
    await symlink(secret, `${log}.1`);
    await symlink(secret, `${log}.1.new`);
    expect(await cut()).toEqual(['could not roll a log that has grown too long']);
    expect(await readFile(secret, 'utf8')).toBe('x'.repeat(100));
  });
});

test('a pipe in the place of a log holds nobody up', async () => {
  execFileSync('mkfifo', [log]);
  expect(tailOf(log)).toBe('');
  await cut();
  await expect(openPlain(log, 'read')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
});

test('a log that is one is rolled as ever, a link in the way of what is kept of it is replaced', async () => {
  await writeFile(log, 'y'.repeat(4096) + 'z'.repeat(8000));
  await symlink(secret, `${log}.1`);
  expect(await cut()).toEqual([]);
  expect(await readFile(`${log}.1`, 'utf8')).toBe('y'.repeat(4096));
  expect(await readFile(log, 'utf8')).toBe('z'.repeat(8000));
  expect(await readFile(secret, 'utf8')).toBe('x'.repeat(100));
});

test('the run directory of a VM is removed, and nothing behind a link in it or in its place', async () => {
  const store = new VmStore({ stateDir: directory, runDir: join(directory, 'run') });
  await store.makeRunDir('web');
  const { runDir } = store.paths('web');
  await symlink(directory, join(runDir, 'link'));
  await store.removeRunDir('web');
  expect(await lstat(runDir).catch(() => 'gone')).toBe('gone');
  await symlink(directory, runDir);
  await store.makeRunDir('web');
  expect((await lstat(runDir)).isDirectory()).toBe(true);
  expect(await readFile(secret, 'utf8')).toBe('x'.repeat(100));
});
