/** What a running QEMU may do and has: its user, its sandbox, its descriptors, its environment, its share of the host. */
import { execFileSync } from 'node:child_process';
import { chmod, copyFile, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { isAlive } from '../../agent/process-identity.ts';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import type { ConfinementSettings } from '../../agent/vm/confinement/confinement.ts';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import type { VmManagerOptions } from '../../agent/vm/manager.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { silent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
const { vhostDeviceVsock } = artefacts();
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.warn('tests of another user are skipped: they need root');
const NOBODY = '65534';

const hostWith = (confinement: ConfinementSettings, more: Partial<VmManagerOptions> = {}) => testHost({ confinement, ...more });
const pidOf = (host: TestHost, name: string): number => host.manager.get(name).pid ?? 0;

async function statusOf(pid: number): Promise<Record<string, string>> {
  const lines = (await readFile(`/proc/${pid}/status`, 'utf8')).trim().split('\n');
  return Object.fromEntries(lines.map((line) => line.split(/:\s*/, 2)));
}

/** What each descriptor of a process is, without the numbers of sockets and pipes. */
async function descriptorsOf(pid: number): Promise<string[]> {
  const numbers = await readdir(`/proc/${pid}/fd`);
  const targets = await Promise.all(numbers.map((number) => readlink(`/proc/${pid}/fd/${number}`).catch(() => 'closed')));
  return targets.map((target) => target.replace(/\[\d+\]$/, ''));
}

describe.skipIf(missing !== undefined)('a running QEMU', () => {
  test('is in its sandbox, has no descriptor that it was not given, and nothing of the environment of the agent', async () => {
    process.env['FAIRLEAD_TEST_SECRET'] = 'secret';
    await using host = await hostWith({ oomScoreAdj: 300 });
    await host.manager.run(spec({ name: 'web' }));
    delete process.env['FAIRLEAD_TEST_SECRET'];
    const pid = pidOf(host, 'web');

    expect(await statusOf(pid)).toMatchObject({ Seccomp: '2', NoNewPrivs: '1' });
    expect(await readFile(`/proc/${pid}/oom_score_adj`, 'utf8')).toBe('300\n');
    const environment = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0').map((entry) => entry.split('=')[0]);
    for (const name of environment)
      expect(['', 'PATH', 'LANG', 'LC_ALL', 'TMPDIR', 'LD_LIBRARY_PATH', 'QEMU_MODULE_DIR', 'PWD']).toContain(name);

    const { stateDir, runDir } = host.options;
    const own = [`${stateDir}/vms/web/`, `${runDir}/web/`, 'socket:', 'anon_inode:', '/memfd:', '/dev/null'];
    expect((await descriptorsOf(pid)).filter((target) => !own.some((prefix) => target.startsWith(prefix)))).toEqual([]);
  });

  test('makes nothing that others may open', async () => {
    await using host = await hostWith({});
    const umask = process.umask(0);
    try {
      await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }));
    } finally {
      process.umask(umask);
    }
    const { stateDir, runDir } = host.options;
    for (const directory of [join(runDir, 'web'), join(stateDir, 'vms/web'), join(stateDir, 'vms/web/logs')]) {
      for (const entry of await readdir(directory)) {
        // Files that are being replaced come and go; what the console's output leads to is /dev/null.
        const { mode } = entry === 'console.out' ? { mode: 0 } : await stat(join(directory, entry)).catch(() => ({ mode: 0 }));
        expect(mode & 0o077, entry).toBe(0);
      }
    }
  });

  test('counts for the share of all VMs until it is gone, also over a restart of the agent', async () => {
    await using host = await hostWith({ maxCpus: 3, maxMemoryBytes: 160 * 1024 ** 2 });
    await host.manager.run(spec({ name: 'one', cpus: { count: 2 } }));
    await host.manager.create(spec({ name: 'two', cpus: { count: 2 } }));
    await host.manager.create(spec({ name: 'three', memory: { bytes: '128MiB' } }));
    const refusedBy = (setting: string) => ({
      code: 'LIMIT_EXCEEDED',
      details: { setting },
      message: expect.stringContaining(setting),
    });
    await expect(host.manager.start('two')).rejects.toMatchObject(refusedBy('maxCpus'));
    await expect(host.manager.start('three')).rejects.toMatchObject(refusedBy('maxMemory'));
    await expect(host.manager.create(spec({ name: 'big', cpus: { count: 4 } }))).rejects.toMatchObject(refusedBy('maxCpus'));
    await expect(
      host.manager.create(spec({ name: 'big', memory: { bytes: '64MiB', maxBytes: '256MiB' } })),
    ).rejects.toMatchObject(refusedBy('maxMemory'));

    await host.restart();
    await expect(host.manager.start('two')).rejects.toMatchObject(refusedBy('maxCpus'));
    await host.manager.stop('one', { graceMs: 0 });
    await expect(host.manager.start('two')).resolves.toMatchObject({ state: 'running' });
  });

  test('of two that start side by side and fit alone, one gets the last of the share', async () => {
    await using host = await hostWith({ maxCpus: 2 });
    for (const name of ['one', 'two']) await host.manager.create(spec({ name, cpus: { count: 2 } }));
    const starts = await Promise.allSettled(['one', 'two'].map((name) => host.manager.start(name)));
    expect(starts.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  test('is not emulated where the host allows no emulation, and a start that fails gives its share back', async () => {
    await using host = await hostWith({ maxCpus: 1 }, { policy: { qmpCommands: ['*'], accelerators: ['kvm'] } });
    await expect(host.manager.run(spec({ name: 'web' }))).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      details: { setting: 'accelerators' },
    });
    const { reason } = (await host.manager.hostInfo()).kvm;
    if (reason === undefined) return;
    for (const _ of [1, 2]) {
      await expect(host.manager.run(spec({ name: 'web', accelerator: 'auto' }))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    }
  });
});

describe.skipIf(missing !== undefined || !isRoot)('QEMU as a user of its own', () => {
  async function nobodysHost(more: Partial<VmManagerOptions> = {}): Promise<TestHost> {
    const host = await hostWith({ user: NOBODY, group: NOBODY }, more);
    // The directories of a test are in one for its user alone.
    await chmod(dirname(host.options.stateDir), 0o711);
    return host;
  }

  test('has that user and group and no other, runs, is adopted and leaves nothing', async () => {
    await using host = await nobodysHost();
    // Groups of the agent would be those of its QEMU.
    const groups = process.getgroups?.() ?? [];
    process.setgroups?.([4, 24]);
    try {
      await host.manager.run(spec({ name: 'web', networks: [{ type: 'user' }], memory: { bytes: '64MiB', backing: 'file' } }));
    } finally {
      process.setgroups?.(groups);
    }
    const status = await statusOf(pidOf(host, 'web'));
    expect(status['Uid']?.split('\t')).toEqual([NOBODY, NOBODY, NOBODY, NOBODY]);
    expect(status['Gid']?.split('\t')).toEqual([NOBODY, NOBODY, NOBODY, NOBODY]);
    expect(status).toMatchObject({ Groups: '', CapEff: '0000000000000000', CapPrm: '0000000000000000', Seccomp: '2' });

    const { manager } = host;
    expect(await manager.pause('web')).toMatchObject({ state: 'paused' });
    const again = await host.restart();
    expect(await again.resume('web')).toMatchObject({ state: 'running' });
    await again.stop('web', { graceMs: 0 });
    expect(await again.start('web')).toMatchObject({ generation: 2 });
    await again.delete('web', { force: true });
    expect(await readdir(host.options.runDir)).toEqual([]);
  });

  test('gets at what is its own and at nothing else of the agent', async () => {
    await using host = await nobodysHost();
    await host.manager.run(spec({ name: 'web' }));
    const { stateDir, runDir } = host.options;
    await writeFile(join(stateDir, 'host-key.pem'), 'secret', { mode: 0o600 });
    const asUser = (...argv: string[]): string => {
      try {
        return execFileSync('/bin/sh', ['-c', '"$@" 2>&1', 'sh', ...argv], { uid: 65534, gid: 65534, encoding: 'utf8' });
      } catch (error) {
        return String((error as { stdout?: string }).stdout);
      }
    };
    expect(asUser('cat', join(runDir, 'web/monitor.sock'))).not.toContain('Permission denied');
    for (const path of [stateDir, runDir, join(stateDir, 'vms'), join(stateDir, 'vms/web')]) {
      expect(asUser('ls', path), path).toContain('Permission denied');
    }
    for (const path of ['host-key.pem', 'vms/web/vm.json', 'vms/web/logs/qemu.log']) {
      expect(asUser('cat', join(stateDir, path)), path).toContain('Permission denied');
    }
    expect(asUser('touch', join(stateDir, 'vms/web/logs/other'))).toContain('Permission denied');
  });

  it.each([
    ['r', 0o600, true, 'cannot read'],
    ['w', 0o644, false, 'cannot write'],
  ])(
    'is refused a disk that it could not open (%s) before it is started, by the names of file and user',
    async (_, mode, readOnly, word) => {
      const directory = await mkdtemp(join(tmpdir(), 'fl image, '));
      try {
        const path = join(directory, 'disk \\n %s.raw');
        await writeFile(path, Buffer.alloc(1024 ** 2));
        await chmod(directory, 0o755);
        await chmod(path, mode);
        await using host = await nobodysHost();
        await host.manager.create(spec({ name: 'web', disks: [{ path, readOnly }] }));
        const refusal = {
          code: 'PERMISSION_DENIED',
          message: expect.stringContaining(word),
          details: { field: 'spec.disks[0].path', path, user: 'nobody', setting: 'qemuUser' },
        };
        await expect(host.manager.start('web')).rejects.toMatchObject(refusal);
        expect(await readdir(host.options.runDir)).toEqual([]);
        await chmod(path, 0o666);
        expect(await host.manager.start('web')).toMatchObject({ state: 'running' });
      } finally {
        await rm(directory, { recursive: true });
      }
    },
  );

  test('is given no disk while it runs that it could not open', async ({ onTestFinished }) => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-disk-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    await using host = await nobodysHost();
    await host.manager.run(spec({ name: 'web' }));
    const { manager } = host;
    const checkPolicy = (wanted: VmSpec) => manager.checkFiles(wanted);
    using devices = new DeviceOperations({ vms: manager, logger: silent, checkPolicy });
    const path = join(directory, 'disk.raw');
    await writeFile(path, Buffer.alloc(1024 ** 2), { mode: 0o600 });
    const attach = () => devices.attachDisk(parseParams('disk.attach', { vm: 'web', id: 'data', disk: { path } }), {});
    await expect(attach()).rejects.toMatchObject({ code: 'PERMISSION_DENIED', details: { path, user: 'nobody' } });
    await chmod(directory, 0o755);
    await chmod(path, 0o666);
    expect(await attach()).toEqual({ changed: true });
  });

  test.skipIf(vhostDeviceVsock === undefined)('has its vsock daemon with it, in the same hands', async ({ onTestFinished }) => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-daemon-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    await chmod(directory, 0o755);
    const binary = join(directory, 'vhost-device-vsock');
    await copyFile(vhostDeviceVsock ?? '', binary);
    await chmod(binary, 0o755);
    const transport = vhostUserTransport({ binary, logger: silent });
    await using host = await nobodysHost({ vsock: { available: true, transport } });
    await host.manager.run(spec({ name: 'web', vsock: {} }));
    const record = JSON.parse(await readFile(join(host.options.stateDir, 'vms/web/vm.json'), 'utf8'));
    const { pid, startTime } = record.process.vsock.daemon;
    expect(await statusOf(pid)).toMatchObject({ Uid: [NOBODY, NOBODY, NOBODY, NOBODY].join('\t'), Groups: '' });
    const own = [`${host.options.runDir}/web/`, 'socket:', 'anon_inode:', '/memfd:', '/dev/null'];
    expect((await descriptorsOf(pid)).filter((target) => !own.some((prefix) => target.startsWith(prefix)))).toEqual([]);
    await host.manager.stop('web', { graceMs: 0 });
    expect(isAlive({ pid, startTime })).toBe(false);
    expect(await readdir(host.options.runDir)).toEqual([]);
  });

  test('an agent whose user does not exist does not run VMs as another', async () => {
    await expect(hostWith({ user: 'no-such-user' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      details: { setting: 'qemuUser' },
    });
  });
});
