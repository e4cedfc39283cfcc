/** The supervisor against the real QEMU, without a guest's operating system: firmware that finds nothing to boot. */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { QmpClient } from '../../agent/qmp/client.ts';
import { redefine } from '../../agent/vm/redefine.ts';
import { nextEvent, spec, type TestHost, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== undefined)('a VM', () => {
  let host: TestHost;
  beforeEach(async () => {
    host = await testHost();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const pidOf = (name: string): number => host.manager.get(name).pid ?? 0;
  const runDirOf = (name: string): string => join(host.options.runDir, name);
  const stateDirOf = (name: string): string => join(host.options.stateDir, 'vms', name);

  test('goes through its life, telling each step once', async () => {
    const { manager } = host;
    expect(await manager.run(spec({ name: 'web' }))).toMatchObject({ state: 'running', generation: 1, accelerator: 'tcg' });
    expect(await manager.pause('web')).toMatchObject({ state: 'paused' });
    expect(await manager.pause('web')).toMatchObject({ state: 'paused' });
    expect(await manager.resume('web')).toMatchObject({ state: 'running' });
    expect(await manager.resume('web')).toMatchObject({ state: 'running' });
    expect(await manager.start('web')).toMatchObject({ state: 'running', generation: 1 });
    expect(await manager.stop('web', { graceMs: 0 })).toMatchObject({
      endedBy: 'quit',
      vm: { state: 'stopped', exit: { reason: 'host-qmp-quit', code: 0, signal: null } },
    });
    expect(await manager.stop('web')).toMatchObject({ endedBy: 'already-stopped' });
    expect(await manager.start('web')).toMatchObject({ state: 'running', generation: 2 });
    await manager.delete('web', { force: true });
    expect(typesOf(manager)).toEqual([
      'vm.created',
      'vm.started',
      'vm.paused',
      'vm.resumed',
      'vm.stopping',
      'vm.stopped',
      'vm.started',
      'vm.stopping',
      'vm.stopped',
      'vm.deleted',
    ]);
  });

  test('at rest gets another spec, which it has at its next start and for a later agent, and keeps its identity', async () => {
    const { manager } = host;
    const before = await manager.run(spec({ name: 'web' }));
    const { memory } = before.spec;
    const bigger = { ...before.spec, memory: { ...memory, bytes: memory.bytes * 2 } };
    await expect(redefine(manager, 'web', bigger, {})).rejects.toMatchObject({ code: 'WRONG_STATE' });
    await manager.stop('web', { graceMs: 0 });
    await expect(redefine(manager, 'web', { ...bigger, name: 'other' }, {})).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    expect(await redefine(manager, 'web', bigger, {})).toMatchObject({ uuid: before.uuid, spec: bigger });
    expect(await manager.start('web')).toMatchObject({ state: 'running', uuid: before.uuid, generation: 2 });
    const { argv } = await manager.args({ vm: 'web' });
    expect(argv.join(' ')).toContain(String(bigger.memory.bytes));
    expect(JSON.parse(await readFile(join(stateDirOf('web'), 'vm.json'), 'utf8'))).toMatchObject({
      spec: { memory: bigger.memory },
    });
  });

  test('that is deleted leaves no process, no file and no socket', async () => {
    const { manager } = host;
    await manager.run(spec({ name: 'web' }));
    const pid = pidOf('web');
    await manager.delete('web', { force: true });
    expect(identityOf(pid)).toBeUndefined();
    expect(existsSync(stateDirOf('web'))).toBe(false);
    expect(readdirSync(host.options.runDir)).toEqual([]);
    expect(manager.list()).toEqual([]);
    await expect(manager.start('web')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('that runs is not deleted without force', async () => {
    await host.manager.run(spec({ name: 'web' }));
    await expect(host.manager.delete('web')).rejects.toMatchObject({ code: 'WRONG_STATE', details: { state: 'running' } });
  });

  test('tells every reset, in the state that it is in', async () => {
    const { manager } = host;
    await manager.run(spec({ name: 'web' }));
    const reset = nextEvent(manager, 'vm.reset');
    expect(await manager.reset('web')).toMatchObject({ state: 'running' });
    expect(await reset).toMatchObject({ state: 'running', data: { guest: false, reason: 'host-qmp-system-reset' } });
    await manager.pause('web');
    expect(await manager.reset('web')).toMatchObject({ state: 'paused' });
  });

  test('whose QEMU is killed is crashed at once, with what is known, and starts again', async () => {
    const { manager } = host;
    await manager.run(spec({ name: 'web' }));
    const crashed = nextEvent(manager, 'vm.crashed');
    process.kill(pidOf('web'), 'SIGKILL');
    expect(await crashed).toMatchObject({ vm: 'web', state: 'crashed', data: { reason: 'killed', signal: 'SIGKILL' } });
    expect(manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'killed', code: null, signal: 'SIGKILL' } });
    expect(await manager.start('web')).toMatchObject({ state: 'running', generation: 2 });
  });

  test('that somebody else ends with SIGTERM is stopped, not crashed', async () => {
    const { manager } = host;
    await manager.run(spec({ name: 'web' }));
    const stopped = nextEvent(manager, 'vm.stopped');
    process.kill(pidOf('web'), 'SIGTERM');
    expect(await stopped).toMatchObject({ data: { reason: 'host-signal' } });
  });

  test('that hangs keeps its caller no longer than the deadline, and holds up no other', async () => {
    const { manager } = host;
    await Promise.all([manager.run(spec({ name: 'stuck' })), manager.run(spec({ name: 'well' }))]);
    process.kill(pidOf('stuck'), 'SIGSTOP');
    const stuck = manager.pause('stuck', { timeoutMs: 1_000 });
    stuck.catch(() => {});
    expect(await manager.pause('well')).toMatchObject({ state: 'paused' });
    expect(manager.list().map(({ name, state }) => `${name} ${state}`)).toEqual(['stuck running', 'well paused']);
    await expect(stuck).rejects.toMatchObject({ code: 'TIMEOUT' });
    process.kill(pidOf('stuck'), 'SIGCONT');
  });

  test('that hangs is stopped all the same, by SIGKILL in the end', async () => {
    const { manager } = host;
    await manager.run(spec({ name: 'web' }));
    process.kill(pidOf('web'), 'SIGSTOP');
    expect(await manager.stop('web', { graceMs: 300 })).toMatchObject({
      endedBy: 'sigkill',
      vm: { state: 'stopped', exit: { reason: 'sigkill', signal: 'SIGKILL' } },
    });
  });

  test('whose stop is given up while the guest was only asked goes on running', async () => {
    const { manager } = host;
    await manager.run(spec({ name: 'web' }));
    await expect(manager.stop('web', { graceMs: 60_000, timeoutMs: 300 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(manager.get('web').state).toBe('running');
  });

  test('that ends while it starts is told with the words of QEMU, and nothing is left', async () => {
    const { manager } = host;
    const bad = spec({ name: 'web', cpus: { model: 'no-such-model' } });
    await expect(manager.run(bad)).rejects.toMatchObject({
      code: 'PROCESS_FAILED',
      message: expect.stringMatching(
        /^QEMU of VM web ended with code 1 while it started: .*unable to find CPU model 'no-such-model'$/,
      ),
      details: { exitCode: 1, stderrTail: expect.stringContaining('no-such-model') },
    });
    expect(manager.list()).toEqual([]);
    expect(readdirSync(host.options.runDir)).toEqual([]);

    await manager.create(bad);
    await expect(manager.start('web')).rejects.toMatchObject({ code: 'PROCESS_FAILED' });
    expect(manager.get('web')).toMatchObject({ state: 'created', exit: { reason: 'start-failed', code: 1 } });
    expect(manager.get('web').pid).toBeUndefined();
    expect(manager.events.query({ vm: 'web' }).events.at(-1)).toMatchObject({
      type: 'vm.start-failed',
      state: 'created',
      data: { generation: 1, code: 'PROCESS_FAILED', message: expect.stringContaining('no-such-model') },
    });
    expect(readdirSync(host.options.runDir)).toEqual([]);
  });

  test('whose start is cancelled is not there any more', async () => {
    const { manager } = host;
    await manager.create(spec({ name: 'web' }));
    const controller = new AbortController();
    const starting = manager.start('web', { signal: controller.signal });
    // The socket's directory appears early in a start.
    await expect.poll(() => existsSync(runDirOf('web')), { interval: 1 }).toBe(true);
    controller.abort();
    await expect(starting).rejects.toMatchObject({ code: 'CANCELLED', message: 'starting VM web was cancelled' });
    expect(manager.get('web')).toMatchObject({ state: 'created' });
    expect(existsSync(runDirOf('web'))).toBe(false);
    expect(await manager.start('web')).toMatchObject({ state: 'running' });
  });

  test('of a name that is taken is refused, even when both come at once', async () => {
    const { manager } = host;
    const both = await Promise.allSettled([manager.run(spec({ name: 'web' })), manager.run(spec({ name: 'web' }))]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'CONFLICT' } });
    expect(manager.get('web').state).toBe('running');
  });

  test('with files that are not there is refused with the field and the path', async () => {
    const { manager } = host;
    await expect(manager.create(spec({ name: 'web', boot: { kernel: '/no/such kernel' } }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: 'spec.boot.kernel of VM web is "/no/such kernel": there is no such file on the host',
    });
    await expect(manager.run(spec({ name: 'web', disks: [{ path: '/no/disk' }] }))).rejects.toMatchObject({
      code: 'NOT_FOUND',
      details: { field: 'disks[0].path', path: '/no/disk' },
    });
    expect(manager.list()).toEqual([]);
  });

  test('beyond the limit of the host is refused', async () => {
    await using small = await testHost({ limits: { maxVms: 1, maxStreamsPerVm: 1 } });
    await small.manager.create(spec({ name: 'one' }));
    await expect(small.manager.create(spec({ name: 'two' }))).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  test('whose fields do not fit each other is refused with the field', async () => {
    const { manager } = host;
    const topology = { sockets: 2, cores: 2 };
    await expect(
      manager.create(spec({ name: 'web', cpus: { count: 3, topology }, memory: { bytes: '1G' } })),
    ).rejects.toMatchObject({
      code: 'INVALID_PARAMS',
      details: {
        issues: [
          { path: 'spec.memory.bytes', message: 'must be a whole number of MiB, such as 954MiB' },
          { path: 'spec.cpus.count', message: 'must be what the topology makes, 4' },
        ],
      },
    });
  });

  test('with paths of every kind opens exactly these files', async () => {
    const { manager, options } = host;
    const folder = join(options.stateDir, 'disks, "of" ÜΩ漢\n=on');
    await mkdir(folder);
    const names = [
      'plain.raw',
      'a b.raw',
      'a,readonly=on.raw',
      '"quoted".raw',
      "it's.raw",
      'back\\slash.raw',
      'new\nline.raw',
      '漢字 é.raw',
      '{"x":1}.raw',
      '-S',
    ];
    const disks = names.map((name) => ({ path: join(folder, name) }));
    await Promise.all(disks.map(({ path }) => writeFile(path, Buffer.alloc(1024 * 1024))));
    await manager.run(spec({ name: 'web', disks }));
    const block = await manager.qmp('web', { execute: 'query-named-block-nodes', arguments: { flat: true } });
    const open = (Array.isArray(block) ? block : []).filter(({ drv }) => drv === 'file').map(({ file, ro }) => `${file} ${ro}`);
    expect(open.sort()).toEqual(disks.map(({ path }) => `${path} false`).sort());
  });

  test("keeps a second monitor for people beside the agent's own", async () => {
    await host.manager.run(spec({ name: 'web' }));
    await using monitor = await QmpClient.connect({ path: join(runDirOf('web'), 'monitor.sock') });
    expect(await monitor.execute('query-name')).toEqual({ name: 'web' });
    expect(await host.manager.qmp('web', { execute: 'query-name' })).toEqual({ name: 'web' });
  });

  test('that somebody pauses past the agent is known as paused', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const paused = nextEvent(host.manager, 'vm.paused');
    await using monitor = await QmpClient.connect({ path: join(runDirOf('web'), 'monitor.sock') });
    await monitor.execute('stop');
    await paused;
    expect(host.manager.get('web').state).toBe('paused');
  });

  test('takes raw QMP commands only as the policy says', async () => {
    await using strict = await testHost({ policy: { qmpCommands: ['query-status'] } });
    await strict.manager.run(spec({ name: 'web' }));
    expect(await strict.manager.qmp('web', { execute: 'query-status' })).toMatchObject({ status: 'running' });
    await expect(strict.manager.qmp('web', { execute: 'quit' })).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(
      host.manager.run(spec({ name: 'web' })).then(() => host.manager.qmp('web', { execute: 'no-such' })),
    ).rejects.toMatchObject({
      code: 'QMP_FAILED',
      details: { class: 'CommandNotFound' },
    });
  });

  test('shows the command line that it runs with, and what it would be without running it', async () => {
    const { manager } = host;
    const dry = await manager.args({ spec: spec({ name: 'web' }) });
    expect(dry.argv.slice(0, 2)).toEqual(['-name', 'guest=web,debug-threads=on']);
    await manager.run(spec({ name: 'web' }));
    const { argv } = await manager.args({ vm: 'web' });
    const running = (await readFile(`/proc/${pidOf('web')}/cmdline`, 'utf8')).split('\0').slice(0, -1);
    expect(running.slice(-argv.length)).toEqual(argv);
  });

  test('says what the host is, and why it has no KVM where it has none', async () => {
    const info = await host.manager.hostInfo();
    expect(info).toMatchObject({
      qemu: { available: true, version: expect.stringMatching(/^\d+\.\d+\.\d+$/) },
      vsock: { available: false },
    });
    expect(info.qemu.machines).toEqual(expect.arrayContaining(['microvm', 'q35']));
    if (info.kvm.available) return;
    expect(info.kvm.reason).toMatch(/\/dev\/kvm|test guest under kvm/);
    await expect(host.manager.create(spec({ name: 'web', accelerator: 'kvm' }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(info.kvm.reason ?? ''),
    });
    expect(await host.manager.run(spec({ name: 'web', accelerator: 'auto' }))).toMatchObject({ accelerator: 'tcg' });
  });
});
