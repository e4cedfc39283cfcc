/** Streams from operators through the hub to hosts: the same bytes at both ends, each direction's end, refusals and limits. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from 'vitest';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { Line } from '../../shared/line/line.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { FRAME } from '../../shared/mux/frame.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import { addTestHost, connectTestOperator, type TestAgent } from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

const OPENED = { transport: 'vhost-vsock', halfClose: true, generation: 1 };

/** A host whose guest does `serve` with each stream. */
async function addGuest(hub: TestHub, host: string, serve: (stream: Duplex, meta: JsonObject) => void): Promise<TestAgent> {
  let agent: TestAgent | undefined;
  const onOpen: LineHandlers['onOpen'] = (stream, meta) => {
    if (agent === undefined) throw new Error('a stream came before the line');
    serve(channelDuplex(MuxChannel.accept(agent.line.mux, stream, OPENED, meta)), meta);
  };
  agent = await addTestHost(hub, host, { onOpen });
  await hub.logged(`host ${host} connected`);
  return agent;
}

const echo = (stream: Duplex) => void pipeline(stream, stream).catch(() => {});
const open = (line: Line, params: JsonObject = {}) =>
  MuxChannel.open(line.mux, { method: 'stream.open', params: { vm: 'web', port: 1024, ...params } });

async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function closed(stream: Duplex | undefined): Promise<void> {
  if (stream === undefined || stream.closed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  stream.once('close', resolve);
  await promise;
}

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe('a stream through the hub', () => {
  it('carries 256 KiB each way on 64 streams at once, unchanged', async () => {
    await using hub = await startTestHub();
    await using _agent = await addGuest(hub, 'h1', echo);
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const one = async () => {
      const sent = randomBytes(256 * 1024);
      const stream = channelDuplex(await open(operator.line));
      stream.end(sent);
      expect(digest(await readAll(stream))).toBe(digest(sent));
    };
    await Promise.all(Array.from({ length: 64 }, one));
    await expect.poll(async () => (await hub.post('hub.info')).body.result?.['streamsOpen']).toBe(0);
    const metrics = await (await fetch(`${hub.url}/metrics`)).text();
    expect(metrics).toContain(`fairlead_hub_stream_bytes_total{direction="to_guest"} ${64 * 256 * 1024}`);
    expect(metrics).toContain(`fairlead_hub_stream_bytes_total{direction="to_operator"} ${64 * 256 * 1024}`);
    expect(metrics).toContain('fairlead_hub_streams_total{result="opened"} 64');
  });

  it("opens with the host's params and gives the host's answer to the operator", async () => {
    await using hub = await startTestHub();
    const metas: JsonObject[] = [];
    await using _one = await addGuest(hub, 'h1', echo);
    await using _two = await addGuest(hub, 'h2', (stream, meta) => {
      metas.push(meta);
      echo(stream);
    });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const channel = await open(operator.line, { host: 'h2', port: 7 });
    expect(channel.meta).toEqual(OPENED);
    expect(metas).toEqual([{ method: 'stream.open', params: { vm: 'web', port: 7 } }]);
    channel.reset(1, 'enough');
  });

  it('ends one direction alone', async () => {
    await using hub = await startTestHub();
    await using _agent = await addGuest(hub, 'h1', (stream) => {
      void readAll(stream).then((question) => stream.end(`you said ${question.toString()}`));
    });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const stream = channelDuplex(await open(operator.line));
    stream.end('hello');
    expect((await readAll(stream)).toString()).toBe('you said hello');
  });

  it('is reset at the host when the operator resets it, and when the operator is gone', async () => {
    await using hub = await startTestHub();
    const streams: Duplex[] = [];
    await using _agent = await addGuest(hub, 'h1', (stream) => streams.push(stream.on('error', () => {}).resume()));
    const operator = await connectTestOperator(hub.url, hub.adminToken);
    const first = await open(operator.line);
    await open(operator.line);
    const [one, two] = streams;
    first.reset(1, 'enough');
    await closed(one);
    operator.socket.terminate();
    await closed(two);
    await expect.poll(async () => (await hub.post('hub.info')).body.result?.['streamsOpen']).toBe(0);
  });

  it('is reset at the operator when the host is gone', async () => {
    await using hub = await startTestHub();
    await using agent = await addGuest(hub, 'h1', echo);
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const stream = channelDuplex(await open(operator.line));
    stream.resume();
    agent.socket.terminate();
    const [error] = await once(stream, 'error');
    expect(error).toMatchObject({ code: 'INTERRUPTED' });
  });

  it('on which the host sends beyond its credit costs the host its line, and the operator only the stream', async () => {
    await using hub = await startTestHub();
    const { promise: offered, resolve } = Promise.withResolvers<RawStream>();
    const onOpen: LineHandlers['onOpen'] = (stream) => {
      stream.attach({ onData: () => {}, onFin: () => {}, onReset: () => {} });
      stream.accept(OPENED, 0);
      resolve(stream);
    };
    await using agent = await addTestHost(hub, 'h1', { onOpen });
    await hub.logged('host h1 connected');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const stream = channelDuplex(await open(operator.line)).pause();
    const failed = once(stream, 'close').catch((error: unknown) => error);
    const { id } = await offered;
    const data = Buffer.alloc(8 + 16 * 1024);
    data.writeUInt8(FRAME.DATA, 0);
    data.writeUInt16BE(16 * 1024, 2);
    data.writeUInt32BE(id, 4);
    for (let sent = 0; sent <= 1024; sent += 16) agent.socket.send(data);
    expect(await agent.line.closed).toMatchObject({ code: 1002, reason: expect.stringContaining('credit') });
    expect(await failed).toMatchObject({ code: 'INTERRUPTED' });
    expect(await operator.line.peer.call('hub.info', {})).toMatchObject({ hostsConnected: 0, streamsOpen: 0 });
  });

  it('that nobody reads holds up no other', async () => {
    await using hub = await startTestHub();
    let count = 0;
    await using _agent = await addGuest(hub, 'h1', (stream) => {
      count += 1;
      if (count > 1) echo(stream);
      else stream.on('error', () => {}).pause();
    });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const stalled = channelDuplex(await open(operator.line)).on('error', () => {});
    stalled.write(randomBytes(4 * 1024 * 1024));
    const sent = randomBytes(1024 * 1024);
    const stream = channelDuplex(await open(operator.line));
    stream.end(sent);
    expect(digest(await readAll(stream))).toBe(digest(sent));
    stalled.destroy();
  });
});

describe('a stream is refused', () => {
  const error = (code: string) => expect.objectContaining({ code });

  it('by the host, and the operator gets its reason', async () => {
    await using hub = await startTestHub();
    const onOpen = (stream: RawStream) => stream.refuse(new FairleadError('GUEST_REFUSED', 'nothing listens on port 1024'));
    await using _agent = await addTestHost(hub, 'h1', { onOpen });
    await hub.logged('host h1 connected');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect(open(operator.line)).rejects.toMatchObject({
      code: 'GUEST_REFUSED',
      message: expect.stringContaining('port 1024'),
    });
    expect(await hub.logged('stream.open ended with GUEST_REFUSED')).toMatchObject({ fields: { host: 'h1', audit: true } });
  });

  it('by the hub for wrong params, a role that is too low, an unknown host and one that is away', async () => {
    await using hub = await startTestHub();
    await using agent = await addGuest(hub, 'h1', echo);
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect(open(operator.line, { port: -1 })).rejects.toEqual(error('INVALID_PARAMS'));
    await expect(open(operator.line, { host: 'h9' })).rejects.toEqual(error('NOT_FOUND'));
    await expect(MuxChannel.open(operator.line.mux, { method: 'vm.get', params: { vm: 'web' } })).rejects.toEqual(
      error('INVALID_REQUEST'),
    );
    await expect(MuxChannel.open(operator.line.mux, { vm: 'web' })).rejects.toEqual(error('INVALID_PARAMS'));
    const viewer = await hub.post('token.create', { kind: 'operator', role: 'viewer' });
    await using watching = await connectTestOperator(hub.url, String(viewer.body.result?.['token']));
    await expect(open(watching.line)).rejects.toEqual(error('PERMISSION_DENIED'));
    agent.line.close();
    await hub.logged('host h1 disconnected');
    await expect(open(operator.line, { host: 'h1' })).rejects.toEqual(error('HOST_UNREACHABLE'));
    expect((await hub.post('hub.info')).body.result).toMatchObject({ operatorsConnected: 2, streamsOpen: 0 });
  });

  it('when the host or the operator has as many as may be', async () => {
    await using hub = await startTestHub({ maxStreamsPerHost: 2, maxStreamsPerOperator: 3 });
    await using _one = await addGuest(hub, 'h1', echo);
    await using _two = await addGuest(hub, 'h2', echo);
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await open(operator.line, { host: 'h1' });
    await open(operator.line, { host: 'h1' });
    await expect(open(operator.line, { host: 'h1' })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      message: expect.stringContaining('host h1'),
    });
    await open(operator.line, { host: 'h2' });
    await expect(open(operator.line, { host: 'h2' })).rejects.toEqual(error('LIMIT_EXCEEDED'));
  });

  it('by the hub when the host opens anything but the pull of an image', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1');
    await expect(MuxChannel.open(agent.line.mux, { method: 'guest.stream', params: {} })).rejects.toEqual(
      error('METHOD_NOT_FOUND'),
    );
  });
});
