import { once } from 'node:events';
import * as net from 'node:net';
import { describe, expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { runCommand } from '../../agent/qmp/commands.ts';
import { eventOf, type FakeCommand, type FakePeer, GREETING, startFakeQmp } from '../support/fake-qmp.ts';

const served = async (peer: FakePeer): Promise<void> => {
  await peer.negotiate();
  await peer.serve((command) => ({ echo: command.execute ?? command['exec-oob'] }));
};

describe('setting up a session', () => {
  test('greets, enables out-of-band, and goes through the states in order', async () => {
    const negotiations: FakeCommand[] = [];
    await using fake = await startFakeQmp(async (peer) => void negotiations.push(await peer.negotiate()));
    const states: string[] = [];
    const client = await QmpClient.connect({ path: fake.path, observer: { onState: (state) => void states.push(state) } });
    expect(client.greeting).toEqual({ version: { major: 7, minor: 2, micro: 22 }, capabilities: ['oob'], package: 'fake' });
    expect(negotiations).toEqual([{ execute: 'qmp_capabilities', arguments: { enable: ['oob'] }, id: 1 }]);
    expect(client).toMatchObject({ state: 'ready', oob: true });
    await client.close();
    expect(states).toEqual(['connecting', 'negotiating', 'ready', 'closed']);
    expect(await client.closed).toMatchObject({
      code: 'INTERRUPTED',
      message: `the QMP session on ${fake.path} was closed by its owner`,
    });
  });

  test('does not enable what the server does not offer, and refuses out-of-band then', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      peer.send({ QMP: { ...GREETING.QMP, capabilities: [] } });
      const command = await peer.receive();
      if (command.arguments !== undefined) throw new Error('unasked capabilities');
      peer.reply(command);
    });
    await using client = await QmpClient.connect({ path: fake.path });
    expect(client.oob).toBe(false);
    await expect(client.execute('yank', { instances: [] }, { oob: true })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('works with a greeting and replies that come byte by byte', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      const dribble = async (message: object): Promise<void> => {
        for (const byte of Buffer.from(`${JSON.stringify(message)}\r\n`)) {
          peer.write(Buffer.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      await dribble(GREETING);
      await dribble({ return: {}, id: (await peer.receive()).id });
      await dribble({ return: { name: 'größe 😀' }, id: (await peer.receive()).id });
    });
    await using client = await QmpClient.connect({ path: fake.path });
    expect(await client.execute('query-name')).toEqual({ name: 'größe 😀' });
  });

  test('does not take an event for the reply to qmp_capabilities, and a listener made at once still gets it', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      peer.send(GREETING);
      const command = await peer.receive();
      peer.send(eventOf('STOP'), { return: {}, id: command.id }, eventOf('RESUME'));
    });
    await using client = await QmpClient.connect({ path: fake.path });
    using events = client.listen();
    expect((await events.take()).name).toBe('STOP');
    expect((await events.take()).name).toBe('RESUME');
    expect(client.statistics).toEqual({ commands: 1, failures: 0, events: 2, lateReplies: 0, unknownReplies: 0 });
  });

  test('takes over a socket that is connected', async () => {
    await using fake = await startFakeQmp(served);
    const socket = net.connect(fake.path);
    await once(socket, 'connect');
    await using client = await QmpClient.over(socket, { name: 'web-1' });
    expect(await client.execute('stop')).toEqual({ echo: 'stop' });
  });

  test('fails with a socket that is closed already', async () => {
    const socket = new net.Socket();
    socket.destroy();
    await once(socket, 'close');
    await expect(QmpClient.over(socket, { name: 'web-1' })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  test('says why it could not connect', async () => {
    await expect(QmpClient.connect({ path: '/nonexistent/qmp.sock' })).rejects.toMatchObject({
      code: 'CONNECT_FAILED',
      message: 'could not connect to QMP socket /nonexistent/qmp.sock: ENOENT',
      cause: { code: 'ENOENT' },
    });
    await expect(QmpClient.connect({ path: `/${'x'.repeat(200)}` })).rejects.toMatchObject({
      code: 'CONNECT_FAILED',
      message: expect.stringContaining('the path has 201 bytes, and the system takes at most 107'),
    });
  });

  test('a greeting that never comes ends it by the deadline', async () => {
    await using fake = await startFakeQmp((): void => {});
    await expect(QmpClient.connect({ path: fake.path, greetingTimeoutMs: 20 })).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  test('a second client hears nothing and is told that another may be connected', async () => {
    await using fake = await startFakeQmp(served);
    const first = await QmpClient.connect({ path: fake.path });
    await expect(QmpClient.connect({ path: fake.path, greetingTimeoutMs: 20 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: expect.stringContaining('another client may be connected'),
    });
    await first.close();
    await using third = await QmpClient.connect({ path: fake.path });
    expect(await third.execute('stop')).toEqual({ echo: 'stop' });
  });

  test('is cancelled by its signal', async () => {
    await using fake = await startFakeQmp((): void => {});
    const controller = new AbortController();
    const connecting = QmpClient.connect({ path: fake.path, signal: controller.signal });
    controller.abort();
    await expect(connecting).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(QmpClient.connect({ path: fake.path, signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test.each<[string, string, (peer: FakePeer) => void | Promise<void>, string]>([
    [
      'garbage instead of a greeting',
      'PROTOCOL_ERROR',
      (peer) => peer.write('HTTP/1.1 400 Bad Request\r\n'),
      'no JSON: "HTTP/1.1 400',
    ],
    ['an event before the greeting', 'PROTOCOL_ERROR', (peer) => peer.event('STOP'), "of kind 'event'"],
    ['a greeting of a wrong form', 'PROTOCOL_ERROR', (peer) => peer.send({ QMP: {} }), 'a greeting that QMP does not know'],
    ['three greetings', 'PROTOCOL_ERROR', (peer) => peer.send(GREETING, GREETING, GREETING), 'one greeting too many'],
    ['an end before the greeting', 'INTERRUPTED', (peer) => peer.end(), 'QEMU closed the connection'],
    [
      'an end after the greeting',
      'INTERRUPTED',
      async (peer) => {
        peer.send(GREETING);
        await peer.receive();
        peer.end();
      },
      'QEMU closed the connection',
    ],
    [
      'a refused negotiation',
      'PROTOCOL_ERROR',
      async (peer) => {
        peer.send(GREETING);
        peer.fail(await peer.receive(), 'CommandNotFound', 'no');
      },
      'capabilities negotiation failed',
    ],
    ['a negotiation without answer', 'TIMEOUT', (peer) => peer.send(GREETING), "'qmp_capabilities' had no answer"],
  ])('ends with %s by %s, naming the socket', async (_case, code, script, text) => {
    await using fake = await startFakeQmp(script);
    // What comes has to come first where it ends otherwise.
    const failed = QmpClient.connect({ path: fake.path, greetingTimeoutMs: code === 'TIMEOUT' ? 500 : 30_000 });
    await expect(failed).rejects.toMatchObject({ code, message: expect.stringContaining(text) });
    await expect(failed).rejects.toMatchObject({ message: expect.stringContaining(fake.path) });
  });
});

describe('commands', () => {
  test('are answered by id, in whatever order the replies come, several in one write', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      const [a, b] = [await peer.receive(), await peer.receive()];
      peer.send({ return: 'second', id: b.id }, { return: 'first', id: a.id });
    });
    await using client = await QmpClient.connect({ path: fake.path });
    expect(await Promise.all([client.execute('a'), client.execute('b')])).toEqual(['first', 'second']);
  });

  test('that QEMU refuses fail with class, description and command, and are told to the observer', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      peer.fail(await peer.receive(), 'GenericError', 'Resetting the Virtual Machine is required');
    });
    const outcomes: object[] = [];
    const observer = { onCommand: (outcome: object) => void outcomes.push(outcome) };
    await using client = await QmpClient.connect({ path: fake.path, observer });
    await expect(client.execute('cont')).rejects.toMatchObject({
      code: 'QMP_FAILED',
      message: `QMP command 'cont' failed on ${fake.path}: GenericError: Resetting the Virtual Machine is required`,
      details: { class: 'GenericError', desc: 'Resetting the Virtual Machine is required', command: 'cont' },
    });
    expect(outcomes).toEqual([
      { command: 'qmp_capabilities', ok: true, durationMs: expect.any(Number) },
      { command: 'cont', ok: false, durationMs: expect.any(Number) },
    ]);
    expect(client.statistics).toMatchObject({ commands: 2, failures: 1 });
  });

  test('may return a 200 KB line and a reply of 5 MB', async () => {
    const sizes = [200_000, 5_000_000];
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      for (const size of sizes) peer.reply(await peer.receive(), 'x'.repeat(size));
    });
    await using client = await QmpClient.connect({ path: fake.path });
    for (const size of sizes) expect(String(await client.execute('query-qmp-schema')).length).toBe(size);
  });

  test('may be 2,000 at once, and are answered in order', async () => {
    await using fake = await startFakeQmp(served);
    await using client = await QmpClient.connect({ path: fake.path });
    const replies = await Promise.all(Array.from({ length: 2_000 }, (_, n) => client.execute(`c${n}`)));
    expect(replies).toEqual(Array.from({ length: 2_000 }, (_, n) => ({ echo: `c${n}` })));
  });

  test('have a deadline each; the late reply is dropped and the session goes on', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      const slow = await peer.receive();
      const next = await peer.receive();
      peer.send({ return: 'late', id: slow.id }, { return: 'in time', id: next.id });
    });
    const logged: object[] = [];
    const logger = { debug: () => {}, warn: (fields: object) => void logged.push(fields) };
    await using client = await QmpClient.connect({ path: fake.path, logger });
    await expect(client.execute('slow', {}, { timeoutMs: 10 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: `QMP command 'slow' had no answer on ${fake.path} within 10 ms`,
    });
    expect(await client.execute('next')).toBe('in time');
    expect(client).toMatchObject({ state: 'ready', statistics: { lateReplies: 1, unknownReplies: 0 } });
    expect(logged).toEqual([{ qmp: fake.path, id: 1, fate: 'late' }]);
  });

  test('can be cancelled, and the session goes on', async () => {
    await using fake = await startFakeQmp(served);
    await using client = await QmpClient.connect({ path: fake.path });
    const controller = new AbortController();
    const cancelled = client.execute('slow', {}, { signal: controller.signal });
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED', details: { command: 'slow' } });
    expect(await client.execute('next')).toEqual({ echo: 'next' });
  });

  test('go out-of-band only where QEMU allows it', async () => {
    await using fake = await startFakeQmp(served);
    await using client = await QmpClient.connect({ path: fake.path });
    expect(await client.execute('query-yank', {}, { oob: true })).toEqual({ echo: 'query-yank' });
    await expect(client.execute('stop', {}, { oob: true })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('a reply with an unknown id is counted and dropped', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      const command = await peer.receive();
      peer.send({ return: 1, id: 99999 }, { return: 2, id: 7 }, { return: 3, id: command.id });
    });
    await using client = await QmpClient.connect({ path: fake.path });
    expect(await client.execute('stop')).toBe(3);
    expect(client.statistics.unknownReplies).toBe(2);
  });

  test('whose result is not what it promises fail with PROTOCOL_ERROR', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      await peer.serve(() => ({ running: 'yes', status: 'running' }));
    });
    await using client = await QmpClient.connect({ path: fake.path });
    await expect(runCommand(client, 'query-status')).rejects.toMatchObject({
      code: 'PROTOCOL_ERROR',
      message: expect.stringContaining("'query-status' returned what it should not: running: "),
    });
    expect(client.state).toBe('ready');
  });
});

describe('the end of a session', () => {
  test.each<[string, string, (peer: FakePeer) => void]>([
    ['QEMU closes the connection', 'INTERRUPTED', (peer) => peer.end()],
    ['the connection breaks', 'INTERRUPTED', (peer) => peer.destroy()],
    [
      'an error without id comes',
      'PROTOCOL_ERROR',
      (peer) => peer.send({ error: { class: 'GenericError', desc: 'JSON parse error' } }),
    ],
    ['a reply without id comes', 'PROTOCOL_ERROR', (peer) => peer.send({ return: {} })],
    ['a message is no JSON', 'PROTOCOL_ERROR', (peer) => peer.write('{"return": {}]\r\n')],
    ['a message is none of QMP', 'PROTOCOL_ERROR', (peer) => peer.send({ hello: 'world' })],
    ['a message is too long', 'PROTOCOL_ERROR', (peer) => peer.write('x'.repeat(20_000))],
  ])('settles every command and ends every listener when %s', async (_case, code, harm) => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      await peer.receive();
      harm(peer);
    });
    const states: string[] = [];
    const client = await QmpClient.connect({
      path: fake.path,
      maxMessageBytes: 10_000,
      observer: { onState: (state) => void states.push(state) },
    });
    using events = client.listen();
    const commands = Array.from({ length: 12 }, () => client.execute('stop'));
    const settled = await Promise.allSettled(commands);
    const cause = await client.closed;
    expect(cause).toMatchObject({ code, message: expect.stringContaining(fake.path) });
    expect(settled).toEqual(
      commands.map(() => ({ status: 'rejected', reason: expect.objectContaining({ code: 'INTERRUPTED', cause }) })),
    );
    expect(await Array.fromAsync(events)).toEqual([]);
    await expect(client.execute('stop')).rejects.toMatchObject({ code: 'INTERRUPTED', cause, details: { sent: false } });
    await client.close();
    expect(await client.closed).toBe(cause);
    expect(states).toEqual(['connecting', 'negotiating', 'ready', 'closed']);
  });

  test('keeps the replies and events that came before it', async () => {
    await using fake = await startFakeQmp(async (peer) => {
      await peer.negotiate();
      const quit = await peer.receive();
      peer.send(eventOf('SHUTDOWN', { guest: false, reason: 'host-qmp-quit' }), { return: {}, id: quit.id });
      peer.end();
    });
    await using client = await QmpClient.connect({ path: fake.path });
    using events = client.listen();
    expect(await client.execute('quit')).toEqual({});
    expect(await Array.fromAsync(events)).toMatchObject([{ name: 'SHUTDOWN', data: { reason: 'host-qmp-quit' } }]);
    expect(await client.closed).toMatchObject({ code: 'INTERRUPTED' });
  });

  test('comes when an observer throws', async () => {
    await using fake = await startFakeQmp(served);
    const observer = {
      onCommand: ({ command }: { command: string }) => {
        if (command === 'stop') throw new Error('broken metrics');
      },
    };
    await using client = await QmpClient.connect({ path: fake.path, observer });
    expect(await client.execute('stop')).toEqual({ echo: 'stop' });
    expect(await client.closed).toMatchObject({ code: 'INTERNAL', message: 'broken metrics' });
  });
});
