/** What goes wrong below the agent: with QEMU's process, its monitor and its disks. No operating system is needed for it. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nextEvent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const DISK_BYTES = 1024 ** 2;

describe.skipIf(missing !== undefined)('a VM', () => {
  let host: TestHost;
  beforeEach(async () => {
    host = await testHost();
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const pidOf = (name: string): number => host.manager.get(name).pid ?? 0;
  const qmp = (execute: string, args: Record<string, unknown> = {}) => host.manager.qmp('web', { execute, arguments: args });
  const human = (command: string) => qmp('human-monitor-command', { 'command-line': command });

  /** A disk on a file of the test's own, whose requests can be held up. */
  async function addDisk(): Promise<void> {
    const filename = join(host.options.stateDir, 'disk.raw');
    await writeFile(filename, Buffer.alloc(DISK_BYTES));
    const image = { driver: 'file', filename };
    await qmp('blockdev-add', { driver: 'blkdebug', 'node-name': 'bad-file', image });
    await qmp('blockdev-add', { driver: 'raw', 'node-name': 'bad', file: 'bad-file' });
  }

  test('whose QEMU is killed settles what was asked of it, and is crashed', async () => {
    await host.manager.run(spec({ name: 'web' }));
    process.kill(pidOf('web'), 'SIGSTOP');
    const commands = [host.manager.pause('web'), host.manager.qmp('web', { execute: 'query-status' })];
    for (const command of commands) command.catch(() => {});
    const crashed = nextEvent(host.manager, 'vm.crashed');
    process.kill(pidOf('web'), 'SIGKILL');
    expect(await crashed).toMatchObject({ data: { generation: 1, reason: 'killed', code: null, signal: 'SIGKILL' } });
    for (const command of commands) await expect(command).rejects.toMatchObject({ code: expect.stringMatching(/./) });
  });

  test('serves its agent while a stranger hangs on to its QMP socket, who gets not a byte', async () => {
    await host.manager.run(spec({ name: 'web' }));
    const stranger = connect(join(host.options.runDir, 'web', 'qmp.sock'));
    let heard = 0;
    stranger.on('data', ({ length }) => {
      heard += length;
    });
    await once(stranger, 'connect');
    stranger.write('{"execute":"qmp_capabilities"}{"execute":"quit"}');
    expect(await host.manager.pause('web')).toMatchObject({ state: 'paused' });
    expect(await host.manager.resume('web')).toMatchObject({ state: 'running' });
    expect(heard).toBe(0);
    // He does not get it afterwards either: the agent's connection is the only one to be served.
    stranger.destroy();
    expect(await qmp('query-status')).toMatchObject({ status: 'running' });
  });

  test('whose agent has to wait for its monitor behind a stranger knows its state, and gets it when he goes', async () => {
    await host.manager.run(spec({ name: 'web' }));
    await host.manager.close();
    const stranger = connect(join(host.options.runDir, 'web', 'qmp.sock'));
    // QEMU's greeting: he has it now.
    await once(stranger, 'data');
    const manager = await host.restart();
    expect(manager.get('web')).toMatchObject({ state: 'running' });
    await expect(manager.pause('web', { timeoutMs: 300 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    stranger.destroy();
    await expect
      .poll(
        () =>
          manager.pause('web').then(
            ({ state }) => state,
            () => 'not yet',
          ),
        { timeout: 60_000 },
      )
      .toBe('paused');
  });

  test('whose storage hangs answers nothing, and is ended by the ladder all the same', async () => {
    await host.manager.run(spec({ name: 'web' }));
    await addDisk();
    await human('qemu-io bad "break write_aio stuck"');
    await expect(host.manager.qmp('web', hanging, { timeoutMs: 500 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(host.manager.get('web')).toMatchObject({ state: 'running' });
    await expect(host.manager.pause('web', { timeoutMs: 200 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await host.manager.stop('web', { graceMs: 0 })).toMatchObject({
      endedBy: 'sigkill',
      vm: { state: 'stopped', exit: { reason: 'sigkill', signal: 'SIGKILL' } },
    });
  });
});

/** Waits for the request that it makes, in QEMU's main thread. */
const hanging = { execute: 'human-monitor-command', arguments: { 'command-line': 'qemu-io bad "aio_write 0 512"' } };
