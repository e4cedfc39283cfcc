/** What can go wrong with a suspend, a resume and what lies between them: the VM is running, suspended or told as lost, and never between. */
import { spawnSync } from 'node:child_process';
import { chmod, copyFile, link, mkdir, mkdtemp, open, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VmManagerOptions } from '../../agent/vm/manager.ts';
import { isTestedQemu, requireTestedQemu } from '../../agent/vm/snapshot/tested-qemu.ts';
import { VmStore } from '../../agent/vm/store.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { linuxHost, whyNoLinux } from '../support/linux-vm.ts';
import { nextEvent, spec, type TestHost, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const MIB = 1024 ** 2;
const IN_FILE = { bytes: '64MiB', backing: 'file' } as const;
const SUSPEND = { durability: 'process' } as const;

describe.skipIf(missing !== undefined)('a suspend', () => {
  let host: TestHost;
  beforeEach(async () => {
    host = await testHost();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const run = (more: Partial<VmSpecInput> = {}) => host.manager.run(spec({ name: 'web', memory: IN_FILE, ...more }));
  const stateOf = () => host.manager.get('web').state;
  const pathsOf = (options: VmManagerOptions = host.options) => new VmStore(options).paths('web');

  test.each([['has its RAM in no file', { memory: { bytes: '64MiB' } }, 'memory.backing']] as const)(
    'is refused for a VM that %s',
    async (_, more, word) => {
      await run(more);
      await expect(host.manager.suspend('web', SUSPEND)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining(word),
      });
      expect(stateOf()).toBe('running');
      expect(typesOf(host.manager)).not.toContain('vm.suspending');
    },
  );

  test.skipIf(whyNoLinux() !== undefined)('is refused early where the vsock would have to go and cannot', async () => {
    await using other = await linuxHost();
    await other.manager.run(spec({ name: 'web', machine: 'microvm', memory: IN_FILE, vsock: {} }));
    await expect(other.manager.suspend('web', SUSPEND)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('microvm'),
    });
    expect(typesOf(other.manager)).not.toContain('vm.suspending');
  });

  test('is for versions of QEMU that these tests have run on, of which this is one; others have to be allowed', async () => {
    const { qemuVersion = '' } = await run();
    expect(isTestedQemu(qemuVersion), `add ${qemuVersion} to TESTED_QEMU once all of this holds on it`).toBe(true);
    expect(() => requireTestedQemu('web', '9.1.0', false)).toThrow('untestedSuspend');
    expect(() => requireTestedQemu('web', '9.1.0', true)).not.toThrow();
    expect(['7.20.1', '17.2', '10.1.0', ''].filter(isTestedQemu)).toEqual([]);
  });

  test('is refused for a guest that does not run', async () => {
    await run();
    await host.manager.pause('web');
    await expect(host.manager.suspend('web', SUSPEND)).rejects.toMatchObject({ code: 'WRONG_STATE' });
    expect(stateOf()).toBe('paused');
  });

  test('that is to outlive the host is refused for RAM that does not', async () => {
    const ramDir = await mkdtemp('/dev/shm/fl-suspend-');
    await using other = await testHost({ ramDir });
    await other.manager.run(spec({ name: 'web', memory: IN_FILE }));
    await expect(other.manager.suspend('web', { durability: 'host' })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(ramDir),
    });
    expect(other.manager.get('web').state).toBe('running');
    expect(await other.manager.suspend('web', SUSPEND)).toMatchObject({ vm: { state: 'suspended' } });
    expect(await other.manager.resume('web')).toMatchObject({ state: 'running' });
    await other.manager.delete('web', { force: true });
    await rm(ramDir, { recursive: true });
  });

  test('is durable where it was asked to be: another boot of the host finds the guest', async () => {
    await run();
    expect(await host.manager.suspend('web', { durability: 'host' })).toMatchObject({
      vm: { suspended: { durability: 'host' } },
    });
    await asIfRebooted();
    expect(stateOf()).toBe('suspended');
    expect(await host.manager.resume('web')).toMatchObject({ state: 'running' });
  });

  test('is lost with the host where nothing else was asked for, and says so', async () => {
    await run();
    await host.manager.suspend('web', SUSPEND);
    await asIfRebooted();
    expect(host.manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'host-restart' } });
    expect(await host.manager.start('web')).toMatchObject({ state: 'running' });
  });

  test('fails without harm where its state cannot be written', async () => {
    await run();
    const { pid } = host.manager.get('web');
    await mkdir(join(pathsOf().deviceState, 'in-the-way'), { recursive: true });
    await expect(host.manager.suspend('web', SUSPEND)).rejects.toBeDefined();
    expect(host.manager.get('web')).toMatchObject({ state: 'running', pid, generation: 1 });
    expect(await statusOf()).toBe('running');

    await rm(pathsOf().deviceState, { recursive: true });
    expect(await host.manager.suspend('web', SUSPEND)).toMatchObject({ vm: { state: 'suspended' } });
  });

  test('fails without harm where the disk is full', async ({ skip }) => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-full-'));
    await using undo = new AsyncDisposableStack();
    undo.defer(() => rm(directory, { recursive: true }));
    // Room for records and logs, and not for the state of a machine.
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', directory]).status !== 0) return skip('needs a mount');
    undo.defer(() => void spawnSync('umount', [directory]));
    const small = await testHost({ stateDir: join(directory, 'state'), ramDir: join(tmpdir(), `fl-ram-${process.pid}`) });
    undo.use(small);
    undo.defer(() => rm(join(tmpdir(), `fl-ram-${process.pid}`), { recursive: true, force: true }));
    await small.manager.run(spec({ name: 'web', memory: IN_FILE }));
    await expect(small.manager.suspend('web', SUSPEND)).rejects.toMatchObject({ message: expect.stringContaining('ENOSPC') });
    expect(small.manager.get('web')).toMatchObject({ state: 'running', generation: 1 });
    expect(await small.manager.qmp('web', { execute: 'query-status' })).toMatchObject({ running: true });
    await small.manager.delete('web', { force: true });
  });

  test('of a QEMU that does not answer is given up, and the guest goes on when that comes to itself', async () => {
    await run();
    const { pid = 0 } = host.manager.get('web');
    process.kill(pid, 'SIGSTOP');
    const suspend = host.manager.suspend('web', { ...SUSPEND, timeoutMs: 1_000 });
    await expect(suspend).rejects.toMatchObject({ code: 'TIMEOUT' });
    process.kill(pid, 'SIGCONT');
    expect(await statusOf()).toBe('running');
    expect(stateOf()).toBe('running');
    expect(await host.manager.suspend('web', SUSPEND)).toMatchObject({ vm: { state: 'suspended' } });
  });

  test('is cancelled with its caller, and the guest goes on', async () => {
    await run();
    const caller = new AbortController();
    using _ = host.manager.events.listen((event) => event.type === 'vm.suspending' && caller.abort());
    await expect(host.manager.suspend('web', { ...SUSPEND, signal: caller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(stateOf()).toBe('running');
    expect(await statusOf()).toBe('running');
    expect(typesOf(host.manager).slice(-2)).toEqual(['vm.suspending', 'vm.resumed']);
  });

  test('whose QEMU is killed on the way has lost the guest, and says so', async () => {
    await run();
    const { pid = 0 } = host.manager.get('web');
    const crashed = nextEvent(host.manager, 'vm.crashed', 'web');
    using _ = host.manager.events.listen((event) => event.type === 'vm.suspending' && process.kill(pid, 'SIGKILL'));
    await expect(host.manager.suspend('web', SUSPEND)).rejects.toBeDefined();
    await crashed;
    expect(stateOf()).toBe('crashed');
    expect(await host.manager.start('web')).toMatchObject({ state: 'running', generation: 2 });
  });

  test('leaves disks that nobody may write to, and is not gone on from where somebody did', async () => {
    const path = join(host.options.stateDir, 'data.raw');
    await writeFile(path, Buffer.alloc(MIB));
    await run({ disks: [{ path, format: 'raw' }] });
    await host.manager.suspend('web', SUSPEND);
    expect(await host.manager.resume('web'), 'QEMU itself writes nothing at its end').toMatchObject({ state: 'running' });
    await host.manager.suspend('web', SUSPEND);
    await flip(path);
    await expect(host.manager.resume('web')).rejects.toMatchObject({
      code: 'WRONG_STATE',
      message: expect.stringContaining(`written to while it was suspended: ${path}`),
    });
    expect(stateOf()).toBe('suspended');
  });

  test('leaves nothing that another command could lose by mistake', async () => {
    await run();
    await host.manager.suspend('web', SUSPEND);
    expect(await host.manager.suspend('web', SUSPEND), 'again is nothing').toMatchObject({ vm: { state: 'suspended' } });
    for (const refused of [host.manager.start('web'), host.manager.delete('web'), host.manager.pause('web')]) {
      await expect(refused).rejects.toMatchObject({ code: 'WRONG_STATE', details: { state: 'suspended' } });
    }
    const { ramFile, deviceState } = pathsOf();
    for (const path of [ramFile, deviceState]) expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await host.manager.stop('web', { graceMs: 0 })).toMatchObject({ endedBy: 'discarded', vm: { state: 'stopped' } });
    for (const path of [ramFile, deviceState]) await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await host.manager.start('web')).toMatchObject({ state: 'running' });
  });

  describe('that was left', () => {
    beforeEach(async () => {
      await run();
      await host.manager.suspend('web', SUSPEND);
    });

    const harms: readonly (readonly [what: string, file: 'ramFile' | 'deviceState', harm: (path: string) => Promise<unknown>])[] =
      [
        ['a state with a bit that is another', 'deviceState', flip],
        ['a state that was cut', 'deviceState', (path) => truncate(path, 1_000)],
        ['a state that is gone', 'deviceState', (path) => rm(path)],
        ['RAM that was cut', 'ramFile', (path) => truncate(path, 63 * MIB)],
        ['RAM that grew', 'ramFile', (path) => truncate(path, 65 * MIB)],
        [
          'RAM that is another file',
          'ramFile',
          (path) => copyFile(`${path}.kept`, `${path}.other`).then(() => rename(`${path}.other`, path)),
        ],
        ['RAM that is gone', 'ramFile', (path) => rm(path)],
      ];
    test.each(harms)('is refused with %s, stays suspended, and goes on once that is mended', async (_, file, harm) => {
      const path = pathsOf()[file];
      const kept = `${path}.kept`;
      if (file === 'deviceState') await copyFile(path, kept);
      else await link(path, kept);
      const { size } = await stat(path);
      await harm(path);
      await expect(host.manager.resume('web')).rejects.toMatchObject({
        code: 'WRONG_STATE',
        message: expect.stringContaining(path),
      });
      expect(stateOf()).toBe('suspended');
      await rename(kept, path);
      await truncate(path, size);
      expect(await host.manager.resume('web')).toMatchObject({ state: 'running' });
    });

    test('cannot be gone on from twice: a guest that dies afterwards is lost', async () => {
      const left = await readFile(pathsOf().record, 'utf8');
      expect(JSON.parse(left)).toMatchObject({ state: 'suspended', suspension: { ram: [{ path: pathsOf().ramFile }] } });
      const { pid = 0 } = await host.manager.resume('web');
      const crashed = nextEvent(host.manager, 'vm.crashed', 'web');
      process.kill(pid, 'SIGKILL');
      await crashed;
      await expect(host.manager.resume('web')).rejects.toMatchObject({ code: 'WRONG_STATE' });
      await host.restart();
      expect(stateOf()).toBe('crashed');
      await expect(stat(pathsOf().ramFile)).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(stat(pathsOf().deviceState)).rejects.toMatchObject({ code: 'ENOENT' });
    });

    test('is refused in another machine', async () => {
      await rewrite((record) => record.replace('"smp": "1"', '"smp": "2"'));
      await expect(host.manager.resume('web')).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining('smp'),
      });
      expect(stateOf()).toBe('suspended');
    });

    test('is refused by another QEMU', async () => {
      await rewrite((record) => record.replace(/(?<="suspension"[^]*"qemuVersion": ")[^"]*/, '9.9.9'));
      await expect(host.manager.resume('web')).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining('9.9.9'),
      });
      expect(stateOf()).toBe('suspended');
    });

    test('stays so where its QEMU ends before the guest runs', async () => {
      // A state that is whole and that QEMU will not have: the RAM that it is for has another size.
      await rewrite((record) => record.replaceAll(String(64 * MIB), String(32 * MIB)).replaceAll('"64M"', '"32M"'));
      await truncate(pathsOf().ramFile, 32 * MIB);
      await expect(host.manager.resume('web')).rejects.toMatchObject({ code: 'PROCESS_FAILED' });
      expect(stateOf()).toBe('suspended');
      await rewrite((record) => record.replaceAll(String(32 * MIB), String(64 * MIB)).replaceAll('"32M"', '"64M"'));
      await truncate(pathsOf().ramFile, 64 * MIB);
      expect(await host.manager.resume('web')).toMatchObject({ state: 'running' });
    });

    test('is woken once by many at a time', async () => {
      const all = await Promise.all(Array.from({ length: 8 }, () => host.manager.resume('web')));
      expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
      expect(typesOf(host.manager).filter((type) => type === 'vm.resumed')).toHaveLength(1);
    });
  });

  test('RAM is kept in no directory that others can look into, and in none without room', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-ram-'));
    await chmod(directory, 0o755);
    await using other = await testHost({ ramDir: directory });
    const begin = () => other.manager.run(spec({ name: 'web', memory: IN_FILE }));
    await expect(begin()).rejects.toMatchObject({ code: 'PERMISSION_DENIED', message: expect.stringContaining('755') });
    await chmod(directory, 0o700);
    // Promised to somebody, and taken by nobody yet.
    const promised = await open(join(directory, 'promised'), 'w');
    await promised.truncate(2 ** 43);
    await promised.close();
    await expect(begin()).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', message: expect.stringContaining('ramDir') });
    await rm(join(directory, 'promised'));
    expect(await begin()).toMatchObject({ state: 'running' });
    await other.manager.delete('web', { force: true });
    await rm(directory, { recursive: true });
  });

  async function statusOf(): Promise<unknown> {
    // SAFETY: query-status answers so in every version.
    return ((await host.manager.qmp('web', { execute: 'query-status' })) as { status: string }).status;
  }

  async function asIfRebooted(): Promise<void> {
    await rewrite((record) => record.replaceAll(/"bootId": "[^"]*"/g, '"bootId": "another"'));
  }

  /** Between two agents. */
  async function rewrite(change: (record: string) => string): Promise<void> {
    await host.manager.close();
    const { record } = pathsOf();
    const before = await readFile(record, 'utf8');
    expect(change(before)).not.toBe(before);
    await writeFile(record, change(before));
    await host.restart();
  }
});

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  await writeFile(path, bytes);
}
