/** What an agent finds when it comes back: the same VMs, the same processes, and the truth about those that are gone. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { QmpClient } from '../../agent/qmp/client.ts';
import { nextEvent, spec, type TestHost, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== undefined)('an agent that comes back', () => {
  let host: TestHost;
  beforeEach(async () => {
    host = await testHost();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const recordOf = (name: string): string => join(host.options.stateDir, 'vms', name, 'vm.json');
  const pidOf = (name: string): number => host.manager.get(name).pid ?? 0;

  /** What a later agent would find, had this one written something else. */
  async function rewrite(name: string, change: (record: Record<string, unknown>) => Record<string, unknown>): Promise<void> {
    await writeFile(recordOf(name), JSON.stringify(change(JSON.parse(await readFile(recordOf(name), 'utf8')))));
  }

  test('finds its VMs as they are, in the same processes, and goes on with them', async () => {
    await Promise.all(['one', 'two', 'three'].map((name) => host.manager.run(spec({ name }))));
    await host.manager.pause('two');
    await host.manager.stop('three', { graceMs: 0 });
    const before = host.manager.list().map(({ name, pid, state, generation }) => ({ name, pid, state, generation }));

    const manager = await host.restart();
    expect(manager.list().map(({ name, pid, state, generation }) => ({ name, pid, state, generation }))).toEqual(before);
    expect(await manager.resume('two')).toMatchObject({ state: 'running' });
    expect(await manager.stop('one', { graceMs: 0 })).toMatchObject({ endedBy: 'quit', vm: { exit: { code: null } } });
    expect(await manager.start('one')).toMatchObject({ generation: 2 });
  });

  test('sees an adopted VM die at once', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const manager = await host.restart();
    const crashed = nextEvent(manager, 'vm.crashed');
    process.kill(pidOf('web'), 'SIGKILL');
    expect(await crashed).toMatchObject({ data: { reason: 'lost' } });
  });

  test('tells of a VM that died meanwhile', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const pid = pidOf('web');
    await host.manager.close();
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => identityOf(pid)).toBeUndefined();
    const manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'lost' } });
    expect(typesOf(manager)).toEqual(['vm.created', 'vm.started', 'vm.crashed']);
  });

  test('takes a VM of before a restart of the host for crashed, whoever has its pid now', async () => {
    await host.manager.run(spec({ name: 'web' }));
    await host.manager.stop('web', { graceMs: 0 });
    const other = spawn('sleep', ['600'], { stdio: 'ignore' });
    const { pid = 0, startTime = '' } = identityOf(other.pid ?? 0) ?? {};
    const about = {
      pid,
      startTime,
      binary: '/bin/true',
      argv: [],
      accelerator: 'tcg',
      qemuVersion: '7.2.0',
      startedAt: new Date(),
      logOffset: 0,
    };
    await host.manager.close();
    await rewrite('web', (record) => ({ ...record, state: 'running', process: { ...about, bootId: 'another boot' } }));
    let manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'host-restart' } });

    // That it runs had been told, and was not written down yet.
    await manager.close();
    await rewrite('web', (record) => ({ ...record, state: 'starting', process: { ...about, bootId: 'another boot' } }));
    manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'host-restart' } });

    // The same boot, and a process with the right pid and start time that is not ours.
    await manager.close();
    const { bootId } = await manager.hostInfo();
    await rewrite('web', (record) => ({ ...record, state: 'running', process: { ...about, bootId } }));
    manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'lost' } });
    expect(identityOf(pid)).toBeDefined();
    other.kill();
    await once(other, 'exit');
  });

  test('ends a QEMU that was spawned by an agent that died before it could write so', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const pid = pidOf('web');
    await host.manager.close();
    await rewrite('web', (record) => ({ ...record, state: 'starting', process: undefined }));
    const manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'stopped', exit: { reason: 'start-failed' } });
    expect(identityOf(pid)).toBeUndefined();
    expect(await manager.start('web')).toMatchObject({ state: 'running' });
  });

  test('knows the state of a QEMU that does not answer, and serves it when it does', async () => {
    await Promise.all([host.manager.run(spec({ name: 'web' })), host.manager.run(spec({ name: 'well' }))]);
    await host.manager.pause('web');
    const pid = pidOf('web');
    await host.manager.close();
    process.kill(pid, 'SIGSTOP');
    const manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'paused', pid });
    expect(await manager.pause('well')).toMatchObject({ state: 'paused' });
    await expect(manager.resume('web', { timeoutMs: 500 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const resumed = nextEvent(manager, 'vm.resumed', 'web');
    process.kill(pid, 'SIGCONT');
    // Until QEMU has been reached again a command says that it has not, and may be sent once more.
    await expect
      .poll(
        () =>
          manager.resume('web').then(
            ({ state }) => state,
            ({ code }) => code,
          ),
        { timeout: 30_000 },
      )
      .toBe('running');
    await resumed;
  });

  test('tells late what happened while it was away, once, with its time', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const { runDir } = host.options;
    await host.manager.close();
    {
      await using monitor = await QmpClient.connect({ path: join(runDir, 'web', 'monitor.sock') });
      for (const command of ['stop', 'cont', 'system_reset', 'stop']) await monitor.execute(command);
    }
    const away = new Date().toISOString();
    let manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'paused' });
    const told = ['vm.created', 'vm.started', 'vm.paused', 'vm.resumed', 'vm.reset', 'vm.paused'];
    expect(typesOf(manager).toSorted()).toEqual(told.toSorted());
    expect(manager.events.query({}).events.at(-1)?.time.localeCompare(away)).toBeLessThanOrEqual(0);
    const { epoch, lastSeq } = manager.events;
    manager = await host.restart();
    expect(manager.events).toMatchObject({ epoch, lastSeq });
    expect(await manager.resume('web')).toMatchObject({ state: 'running' });
    // The firmware may reset the machine once more behind it.
    const since = manager.events.query({ since: lastSeq, epoch }).events.filter(({ type }) => type !== 'vm.reset');
    expect(since).toMatchObject([{ seq: lastSeq + 1, type: 'vm.resumed' }]);
  });

  test('does not take a VM for crashed that was ended in order while it was away', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const pid = pidOf('web');
    await host.manager.close();
    process.kill(pid, 'SIGTERM');
    await expect.poll(() => identityOf(pid)).toBeUndefined();
    const manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'stopped', exit: { reason: 'host-signal', code: null } });
    expect(manager.events.query({}).events.at(-1)).toMatchObject({ type: 'vm.stopped', data: { reason: 'host-signal' } });
    expect(readdirSync(host.options.runDir)).toEqual([]);
  });

  test('tells the end of a VM once, whenever its agent died', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const before = await readFile(recordOf('web'), 'utf8');
    await host.manager.stop('web', { graceMs: 0 });
    await host.manager.close();
    // As if the agent had died between the telling and the writing down.
    await writeFile(recordOf('web'), before);
    const manager = await host.restart();
    expect(typesOf(manager)).toEqual(['vm.created', 'vm.started', 'vm.stopping', 'vm.stopped']);
    expect(manager.get('web').state).not.toBe('running');
  });

  test('leaves a stranger alone who has the uuid in his arguments', async () => {
    const { uuid } = await host.manager.create(spec({ name: 'web' }));
    const stranger = spawn('sh', ['-c', 'exec sleep 600', '-uuid', uuid], { stdio: 'ignore' });
    const looker = spawn('tail', ['-f', '/dev/null', join(host.options.runDir, 'web', 'vh')], { stdio: 'ignore' });
    await Promise.all([once(stranger, 'spawn'), once(looker, 'spawn')]);
    await host.restart();
    for (const child of [stranger, looker]) {
      expect(child.signalCode).toBeNull();
      child.kill();
      await once(child, 'exit');
    }
  });

  test('clears away the run directory of a VM that is no more', async () => {
    const left = join(host.options.runDir, 'gone');
    await mkdir(left);
    await writeFile(join(left, 'qmp.sock'), '');
    await host.restart();
    expect(existsSync(left)).toBe(false);
  });

  test('leaves a broken record alone, names it, and serves the others', async () => {
    await host.manager.run(spec({ name: 'fine' }));
    await host.manager.create(spec({ name: 'web' }));
    await host.manager.close();
    await writeFile(recordOf('web'), '{"version": 1');
    const manager = await host.restart();
    expect(manager.list().map(({ name, state }) => `${name} ${state}`)).toEqual(['fine running']);
    expect(manager.broken).toEqual([{ name: 'web', reason: expect.stringContaining('could not read') }]);
    await expect(manager.start('web')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('its record is broken'),
    });
    await expect(manager.create(spec({ name: 'web' }))).rejects.toMatchObject({ code: 'CONFLICT' });
    await manager.delete('web', { force: true });
    expect(await manager.create(spec({ name: 'web' }))).toMatchObject({ state: 'created' });
  });
});
