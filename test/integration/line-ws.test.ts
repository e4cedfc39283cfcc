/** Lines over real WebSockets: streams as Node streams, through a relay, with ends and failures of every kind. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { Duplex, PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { describe, expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import type { Line } from '../../shared/line/line.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { relayStream } from '../../shared/mux/relay.ts';
import { channelDuplex, joinDuplex } from '../../shared/node/channel-duplex.ts';
import { LineServer } from '../support/line-pair.ts';

const quiet: LineHandlers = { onRequest: (method) => Promise.resolve({ method }) };

/** A hub that relays from `/operator` to `/agent`, and an agent that hands each stream to `serve`. */
async function topology(serve: (stream: Duplex) => void): Promise<{ hub: LineServer; agent: Line; operator: Line }> {
  const hub = await LineServer.start((path, server) => ({
    ...quiet,
    onOpen: (stream, meta) => {
      if (path === '/operator') relayStream({ from: stream, to: server.line('/agent').mux, meta });
    },
  }));
  const agent: Line = await hub.dial('/agent', {
    ...quiet,
    onOpen: (stream) => serve(channelDuplex(MuxChannel.accept(agent.mux, stream, {}))),
  });
  const operator = await hub.dial('/operator', quiet);
  return { hub, agent, operator };
}

async function open(line: Line): Promise<Duplex> {
  return channelDuplex(await MuxChannel.open(line.mux, { method: 'stream.open' }));
}

function failureOf(stream: Duplex): Promise<unknown> {
  return finished(stream).then(
    () => 'it ended in order',
    (error: unknown) => error,
  );
}

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('line over ws', () => {
  test('64 streams of 1 MiB each way at once arrive whole, while calls are answered', async () => {
    const { hub, operator, agent } = await topology((stream) => stream.pipe(stream));
    await using _ = hub;
    const transfers = Array.from({ length: 64 }, async () => {
      const bytes = randomBytes(1024 * 1024);
      const stream = await open(operator);
      stream.end(bytes);
      return sha(await buffer(stream)) === sha(bytes);
    });
    expect(await operator.peer.call('hub.info', {})).toEqual({ method: 'hub.info' });
    expect(await Promise.all(transfers)).toEqual(Array.from({ length: 64 }, () => true));
    await expect.poll(() => [operator.mux.streamCount, agent.mux.streamCount]).toEqual([0, 0]);
    expect([operator.mux.pool.usedBytes, agent.mux.pool.usedBytes]).toEqual([0, 0]);
  });

  test('half-close reaches a TCP service and its answer comes back', async () => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      void buffer(socket).then((bytes) => socket.end(`${bytes.length} bytes`));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    // SAFETY: it listens on a TCP port.
    const { port } = server.address() as net.AddressInfo;
    const joined: Promise<void>[] = [];
    const { hub, operator } = await topology((stream) => {
      joined.push(joinDuplex(stream, net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })));
    });
    await using _ = hub;
    const stream = await open(operator);
    stream.end(randomBytes(500_000));
    expect((await buffer(stream)).toString()).toBe('500000 bytes');
    await Promise.all(joined);
    server.close();
  });

  test('a writer waits for a reader that does not read, and memory stays within the window', async () => {
    const accepted = Promise.withResolvers<Duplex>();
    const { hub, operator, agent } = await topology(accepted.resolve);
    await using _ = hub;
    const stream = await open(operator);
    for (let count = 0; count < 40; count += 1) stream.write(Buffer.alloc(65_536));
    const far = await accepted.promise;
    const drained = once(stream, 'drain');
    await operator.peer.call('hub.info', {});
    expect(stream.writableLength).toBeGreaterThan(30 * 65_536);
    expect(agent.mux.pool.usedBytes).toBeLessThanOrEqual(256 * 1024);
    far.resume();
    await drained;
    stream.destroy();
    await expect(finished(far)).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('destroying one end with an error resets the other with a matching code', async () => {
    const accepted = Promise.withResolvers<Duplex>();
    const { hub, operator } = await topology(accepted.resolve);
    await using _ = hub;
    const stream = await open(operator);
    const far = await accepted.promise;
    const failure = failureOf(stream);
    far.on('error', () => {});
    far.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
    expect(await failure).toMatchObject({ code: 'STREAM_RESET', details: { reset: 'RESET' } });
  });

  test('the end of the agent line resets the operator end of its streams, and only those', async () => {
    const accepted = Promise.withResolvers<Duplex>();
    const { hub, operator, agent } = await topology(accepted.resolve);
    await using _ = hub;
    const stream = await open(operator);
    (await accepted.promise).on('error', () => {});
    const failure = failureOf(stream);
    agent.close(1001, 'the agent stops');
    expect(await failure).toMatchObject({ code: 'INTERRUPTED', details: { reset: 'SESSION_LOST' } });
    expect((await agent.closed).code).toBe(1001);
    expect(await operator.peer.call('hub.info', {})).toEqual({ method: 'hub.info' });
  });

  test('messages that come before the line is made are not lost', async () => {
    await using hub = await LineServer.start(() => quiet);
    for (let round = 0; round < 20; round += 1) {
      const line = await hub.dial(`/${round}`, quiet);
      expect(await line.peer.call('hub.info', {})).toEqual({ method: 'hub.info' });
    }
  });

  test('garbage ends the line with a close code and a reason that says what was wrong', async () => {
    await using hub = await LineServer.start(() => quiet);
    const cases: [string, string | Uint8Array, number, RegExp][] = [
      ['/text', 'hello?', 1002, /before HELLO/],
      ['/binary', Buffer.from('ffffffff00000000', 'hex'), 1002, /unknown type 255/],
      ['/short', Buffer.from('010000', 'hex'), 1002, /cut short/],
    ];
    for (const [path, message, code, reason] of cases) {
      const socket = await hub.socket(path);
      const closed = once(socket, 'close');
      socket.send(message);
      const [gotCode, gotReason] = await closed;
      expect([gotCode, String(gotReason)]).toEqual([code, expect.stringMatching(reason)]);
      expect((await hub.line(path).closed).error?.code).toBe('PROTOCOL_ERROR');
    }
  });

  test('a message beyond the limit of the socket ends the line with 1009', async () => {
    await using hub = await LineServer.start(() => quiet);
    const socket = await hub.socket('/big');
    const closed = once(socket, 'close');
    socket.send(Buffer.alloc(256 * 1024 + 1));
    expect((await closed)[0]).toBe(1009);
    expect((await hub.line('/big').closed).error?.message).toMatch(/Max payload size exceeded/);
  });

  test('a line whose other end vanishes is closed with INTERRUPTED', async () => {
    await using hub = await LineServer.start(() => quiet);
    const line = await hub.dial('/agent', quiet);
    const socket = await hub.socket('/other');
    socket.terminate();
    expect(await hub.line('/other').closed).toMatchObject({ code: 1006, error: { code: 'INTERRUPTED' } });
    line.close();
    expect((await hub.line('/agent').closed).error).toBeUndefined();
  });
});

describe('joinDuplex', () => {
  /** Two ends of one connection in memory. */
  function connection(): [Duplex, Duplex] {
    const [there, back] = [new PassThrough(), new PassThrough()];
    const ends = [Duplex.from({ readable: back, writable: there }), Duplex.from({ readable: there, writable: back })] as const;
    for (const end of ends) end.on('error', () => {});
    return [...ends];
  }

  test('without half-close, the end of the first side waits for that of the second', async () => {
    const [client, a] = connection();
    const [b, service] = connection();
    const joined = joinDuplex(a, b, { halfClose: false });
    const order: string[] = [];
    client.end('question');
    await once(service, 'data');
    const ends = [once(service, 'end').then(() => order.push('service saw the end')), joined];
    // Long enough for an end that was passed on to arrive.
    await new Promise((resolve) => setImmediate(resolve));
    order.push('service answers');
    service.end('answer');
    expect((await buffer(client)).toString()).toBe('answer');
    await Promise.all(ends);
    expect(order).toEqual(['service answers', 'service saw the end']);
  });

  test('a failure of either side destroys both and rejects', async () => {
    const [, a] = connection();
    const [b] = connection();
    const joined = joinDuplex(a, b);
    b.destroy(new Error('broken'));
    await expect(joined).rejects.toThrow('broken');
    expect([a.destroyed, b.destroyed]).toEqual([true, true]);
  });

  test('aborting destroys both with the reason', async () => {
    const [, a] = connection();
    const [b] = connection();
    const abort = new AbortController();
    const joined = joinDuplex(a, b, { signal: abort.signal });
    abort.abort(new FairleadError('TIMEOUT', 'idle for too long'));
    await expect(joined).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect([a.destroyed, b.destroyed]).toEqual([true, true]);
  });
});
