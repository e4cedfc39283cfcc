/** The client against the real QEMU: what the scripted server takes for granted is QEMU's own behaviour here. */
import { open } from 'node:fs/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { QMP_COMMANDS, runCommand } from '../../agent/qmp/commands.ts';
import { testQemu } from '../support/qemu.ts';
import { type QemuOptions, startQemuMonitor } from '../support/qemu-monitor.ts';
import { QmpSchema, recordedSchemas } from '../support/qmp-schema.ts';

/** The QEMU of the system, and the newer one where it has been fetched. */
const installations = [
  { name: 'the installed QEMU', ...testQemu('installed') },
  { name: 'QEMU 10', ...testQemu('10') },
];
for (const { name, missing } of installations)
  if (missing !== undefined) console.warn(`skipped: a session with ${name}: ${missing}`);

describe.for(installations)('a session with $name', ({ binary, missing }) => {
  beforeEach(({ skip }) => skip(missing !== undefined, missing));

  const start = (options: QemuOptions = {}) => startQemuMonitor({ binary, ...options });

  test('is negotiated with out-of-band, and knows the version', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    expect(client).toMatchObject({ state: 'ready', oob: true });
    expect((await runCommand(client, 'query-version')).qemu).toEqual(client.greeting.version);
    expect(await runCommand(client, 'query-status')).toEqual({ running: false, status: 'prelaunch' });
    expect(await client.execute('query-yank', {}, { oob: true })).toContainEqual({ type: 'chardev', id: 'qmp' });
  });

  test('gets the event of a command before its reply', async () => {
    await using qemu = await start({ machine: 'q35' });
    await using client = await QmpClient.connect({ path: qemu.path });
    const heard: string[] = [];
    using _events = client.listen({ where: ({ name }) => heard.push(name) > 0 });
    for (const command of ['cont', 'cont', 'stop', 'stop', 'quit'] as const) {
      await runCommand(client, command);
      heard.push(`${command} returned`);
    }
    // RESUME and STOP come once each: on a VM that is in that state already the command succeeds without an event.
    const expected = [
      'RESUME',
      'cont returned',
      'cont returned',
      'STOP',
      'stop returned',
      'stop returned',
      'SHUTDOWN',
      'quit returned',
    ];
    expect(heard).toEqual(expected);
  });

  test('passes a descriptor with the command that names it', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    await using file = await open('/dev/null');
    const status = runCommand(client, 'query-status');
    await runCommand(client, 'getfd', { fdname: 'one' }, { fds: [file.fd] });
    await status;
    await runCommand(client, 'closefd', { fdname: 'one' });
    await expect(runCommand(client, 'closefd', { fdname: 'one' })).rejects.toMatchObject({ code: 'QMP_FAILED' });
    // Without one QEMU has nothing to name.
    await expect(runCommand(client, 'getfd', { fdname: 'two' })).rejects.toMatchObject({ code: 'QMP_FAILED' });
    // One that is closed cannot be passed, and the session goes on.
    await file.close();
    await expect(runCommand(client, 'getfd', { fdname: 'three' }, { fds: [file.fd] })).rejects.toBeTruthy();
    expect(await runCommand(client, 'query-status')).toMatchObject({ running: false });
  });

  test('resets the machine, and hears of it', async () => {
    await using qemu = await start({ machine: 'q35' });
    await using client = await QmpClient.connect({ path: qemu.path });
    using events = client.listen({ names: ['RESET'] });
    await runCommand(client, 'system_reset');
    expect(await events.take({ timeoutMs: 5_000 })).toMatchObject({ data: { guest: false, reason: 'host-qmp-system-reset' } });
  });

  test('finds the recorded schema to be that of this QEMU', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    const { version } = client.greeting;
    const schema = new QmpSchema({ version, schema: await client.execute('query-qmp-schema') });
    const recorded = recordedSchemas().find((each) => each.version === schema.version);
    // Distributions leave parts of QEMU out, so this one may know fewer commands, but none that the recording lacks.
    expect(schema.commands.filter((name) => recorded?.commands.includes(name) === false)).toEqual([]);
    expect(Object.keys(QMP_COMMANDS).filter((name) => !schema.commands.includes(name))).toEqual([]);
  });

  test('reads the schema, some 200 KB in one line', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    const schema = await runCommand(client, 'query-qmp-schema');
    expect(schema.length).toBeGreaterThan(500);
    expect(schema).toContainEqual(expect.objectContaining({ name: 'query-status', 'meta-type': 'command' }));
  });

  test('runs every command that only asks', async () => {
    await using qemu = await start({ machine: 'q35', args: ['-name', 'web-1', '-smp', '2'] });
    await using client = await QmpClient.connect({ path: qemu.path });
    expect(await runCommand(client, 'query-name')).toEqual({ name: 'web-1' });
    expect(await runCommand(client, 'query-uuid')).toEqual({ UUID: '00000000-0000-0000-0000-000000000000' });
    expect(await runCommand(client, 'query-kvm')).toMatchObject({ enabled: false });
    expect(await runCommand(client, 'query-cpus-fast')).toHaveLength(2);
    expect(await runCommand(client, 'query-migrate')).toEqual({});
    expect(await runCommand(client, 'query-machines')).toContainEqual(
      expect.objectContaining({ alias: 'q35', deprecated: false }),
    );
    expect(await runCommand(client, 'set-action', { reboot: 'shutdown', panic: 'pause' })).toEqual({});
    expect(await runCommand(client, 'system_powerdown')).toEqual({});
  });

  test('refuses what QEMU refuses, and goes on', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    await expect(client.execute('no-such-command')).rejects.toMatchObject({
      code: 'QMP_FAILED',
      details: { class: 'CommandNotFound' },
    });
    await expect(client.execute('qmp_capabilities')).rejects.toMatchObject({ code: 'QMP_FAILED' });
    expect(await runCommand(client, 'query-status')).toMatchObject({ running: false });
  });

  test('takes 2,000 commands at once', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    const replies = await Promise.all(
      Array.from({ length: 2_000 }, () => runCommand(client, 'query-status', {}, { timeoutMs: 60_000 })),
    );
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set(['prelaunch']));
    expect(client.statistics).toMatchObject({ commands: 2_001, failures: 0, unknownReplies: 0 });
  });

  test('is one at a time: a second client hears nothing until the first has left', async () => {
    await using qemu = await start();
    const first = await QmpClient.connect({ path: qemu.path });
    await expect(QmpClient.connect({ path: qemu.path, greetingTimeoutMs: 50 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringContaining('another client may be connected'),
    });
    await first.close();
    await using second = await QmpClient.connect({ path: qemu.path });
    expect(await runCommand(second, 'query-status')).toMatchObject({ running: false });
  });

  test('survives a QEMU that is stopped: commands end by their deadlines and work again when it goes on', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    qemu.signal('SIGSTOP');
    const stuck = await Promise.allSettled(
      Array.from({ length: 12 }, () => client.execute('query-status', {}, { timeoutMs: 50 })),
    );
    expect(stuck).toMatchObject(stuck.map((_, n) => ({ reason: { code: 'TIMEOUT', details: { sent: n < 8 } } })));
    await expect(client.execute('quit', {}, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      details: { sent: false },
    });
    qemu.signal('SIGCONT');
    expect(await runCommand(client, 'query-status')).toMatchObject({ status: 'prelaunch' });
    expect(client.statistics).toMatchObject({ lateReplies: 8, unknownReplies: 0 });
  });

  test('ends when QEMU is killed, and every pending command settles', async () => {
    await using qemu = await start();
    const client = await QmpClient.connect({ path: qemu.path });
    qemu.signal('SIGSTOP');
    const commands = Array.from({ length: 12 }, () => client.execute('query-status'));
    qemu.signal('SIGKILL');
    const settled = await Promise.allSettled(commands);
    expect(settled).toMatchObject(settled.map(() => ({ reason: { code: 'INTERRUPTED' } })));
    expect(await qemu.exited).toBe('SIGKILL');
    await client.close();
  });

  test('ends after quit, with the event, the reply and a clean exit', async () => {
    await using qemu = await start();
    await using client = await QmpClient.connect({ path: qemu.path });
    using events = client.listen();
    await runCommand(client, 'quit');
    expect(await Array.fromAsync(events)).toMatchObject([{ name: 'SHUTDOWN', data: { guest: false, reason: 'host-qmp-quit' } }]);
    expect(await client.closed).toMatchObject({ code: 'INTERRUPTED' });
    expect(await qemu.exited).toBe(0);
  });
});
