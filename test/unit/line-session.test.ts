/** A line over sockets in memory, on virtual time. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { Line } from '../../shared/line/line.ts';
import type { LineHandlers, LineOptions } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { FRAME } from '../../shared/mux/frame.ts';
import { SCRAP_BYTES } from '../../shared/mux/limits.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { type MemorySocket, memorySockets } from '../support/memory-socket.ts';
import { framesOf } from '../support/mux-pair.ts';

const HELLO = { contract: 1, software: 'test/1', role: 'agent' } as const;
const echo: LineHandlers = { onRequest: (method, params) => Promise.resolve({ method, params }) };

interface Ends {
  readonly clock: FakeClock;
  readonly dialer: Line;
  readonly acceptor: Line;
  readonly near: MemorySocket;
  readonly far: MemorySocket;
}

function lines(options: { dialer?: Partial<LineOptions>; acceptor?: Partial<LineOptions> } = {}): Ends {
  const clock = new FakeClock();
  const [near, far] = memorySockets();
  const common = { hello: HELLO, handlers: echo, clock };
  const dialer = new Line({ socket: near, role: 'dialer', ...common, ...options.dialer });
  const acceptor = new Line({ socket: far, role: 'acceptor', ...common, ...options.acceptor });
  return { clock, dialer, acceptor, near, far };
}

/** One line whose other end is a bare socket. */
function lone(): { clock: FakeClock; line: Line; peer: MemorySocket; socket: MemorySocket } {
  const clock = new FakeClock();
  const [socket, peer] = memorySockets();
  peer.start({ onText: () => {}, onBinary: () => {}, onDrain: () => {}, onClose: () => {} });
  const line = new Line({ socket, role: 'acceptor', hello: HELLO, handlers: echo, clock });
  return { clock, line, peer, socket };
}

/** Promises and ticks bring about more of each other; all of them come before the next turn of the event loop. */
const settle = (): Promise<void> => setImmediate();

describe('Line', () => {
  test('both sides are ready with the HELLO of the other', async () => {
    const { dialer, acceptor } = lines({ acceptor: { hello: { ...HELLO, role: 'hub', contract: 2 } } });
    expect(await dialer.ready).toMatchObject({ role: 'hub', contract: 2 });
    expect(await acceptor.ready).toMatchObject({ role: 'agent', session: { epoch: 0 } });
  });

  test('HELLO goes before any call, also when the call came first', async () => {
    const { dialer, near } = lines();
    const answer = dialer.peer.call('vm.list', {});
    expect(await answer).toEqual({ method: 'vm.list', params: {} });
    expect(typeof near.sent[0]).toBe('object');
  });

  test('calls and streams share the line', async () => {
    const opened = Promise.withResolvers<MuxChannel>();
    const { dialer, acceptor } = lines({
      acceptor: {
        handlers: { ...echo, onOpen: (stream, meta) => opened.resolve(MuxChannel.accept(acceptor.mux, stream, {}, meta)) },
      },
    });
    await dialer.ready;
    const near = await MuxChannel.open(dialer.mux, { method: 'stream.open' });
    const far = await opened.promise;
    near.write(Uint8Array.of(1, 2, 3));
    expect(await dialer.peer.call('vm.list', {})).toEqual({ method: 'vm.list', params: {} });
    expect([...(far.read() ?? [])]).toEqual([1, 2, 3]);
  });

  test('a call passes bulk data that waits', async () => {
    const { dialer, near } = lines({
      acceptor: { handlers: { ...echo, onOpen: (stream) => stream.accept({}, 1024 * 1024) } },
    });
    await dialer.ready;
    const channel = await MuxChannel.open(dialer.mux, {});
    near.hold();
    const before = near.sent.length;
    channel.write(new Uint8Array(1024 * 1024));
    await settle();
    const held = near.bufferedBytes;
    expect(held).toBeLessThanOrEqual(48 * 1024);
    void dialer.peer.call('vm.list', {}).catch(() => {});
    await settle();
    near.release(near.sent.length - before);
    await settle();
    const order = near.sent.slice(before).map((message) => (typeof message === 'string' ? 'text' : 'data'));
    expect(order.indexOf('text')).toBe(order.lastIndexOf('data', order.indexOf('text')) + 1);
    expect(order.filter((kind) => kind === 'data').length).toBeGreaterThan(order.indexOf('text'));
    dialer.close();
  });

  test('a key press does not wait for answers of the other side, as bulk does', async () => {
    const { dialer, near, far } = lines({
      acceptor: { handlers: { ...echo, onOpen: (stream) => stream.accept({}, 1024 * 1024) } },
    });
    await dialer.ready;
    const [bulk, keys] = [await MuxChannel.open(dialer.mux, {}), await MuxChannel.open(dialer.mux, {})];
    far.hold();
    bulk.write(new Uint8Array(1024 * 1024));
    await settle();
    const before = near.sent.length;
    bulk.write(new Uint8Array(16 * 1024));
    await settle();
    expect(near.sent).toHaveLength(before);
    keys.write(Uint8Array.of(0x6b));
    await settle();
    expect(near.sent.slice(before).map(({ length }) => length)).toEqual([8 + 1]);
    far.release();
    await settle();
    expect(near.sent.length).toBeGreaterThan(before + 1);
    dialer.close();
  });

  test('bulk data asks whether it was read, and takes its leftovers along, without messages of their own', async () => {
    const { dialer, near } = lines({
      acceptor: { handlers: { ...echo, onOpen: (stream) => stream.accept({}, 4 * 1024 * 1024) } },
    });
    await dialer.ready;
    const bulk = await MuxChannel.open(dialer.mux, {});
    await settle();
    const before = near.sent.length;
    for (let round = 0; round < 16; round++) {
      // As much as goes into a message before the line is measured, and a little more; then the next chunk, as a pipe
      // does it: in the tick after the one in which the first went out.
      bulk.write(new Uint8Array(16 * 1024 + 300));
      process.nextTick(() => process.nextTick(() => bulk.write(new Uint8Array(8 * 1024))));
      await settle();
    }
    const sent = near.sent.slice(before).filter((message) => typeof message !== 'string');
    const frames = sent.map((message) => framesOf(message).map(({ type }) => type));
    expect(frames.flat()).toContain(FRAME.PING);
    expect(frames.filter((types) => !types.includes(FRAME.DATA))).toEqual([]);
    const behind = frames.filter((types) => types.includes(FRAME.PING));
    expect(behind.every((types) => types.at(-1) === FRAME.PING)).toBe(true);
    expect(sent.filter(({ length }) => length <= SCRAP_BYTES)).toEqual([]);
    dialer.close();
  });

  test('a peer that never says HELLO is given up after 10 s', async () => {
    const { clock, line, socket } = lone();
    clock.advance(9_999);
    expect(socket.closedWith).toBeUndefined();
    clock.advance(1);
    expect(await line.closed).toMatchObject({ code: 1008, error: { code: 'TIMEOUT' } });
    await expect(line.ready).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(clock.pendingTimers).toBe(0);
  });

  test('a HELLO of another protocol closes the line with 1002 and says what to do', async () => {
    const { line, peer, socket } = lone();
    const json = Buffer.from('{"protocol":9}');
    peer.sendBinary([Uint8Array.of(1, 0, 0, json.length, 0, 0, 0, 0), json]);
    const { error } = await line.closed;
    expect(error).toMatchObject({ code: 'PROTOCOL_ERROR' });
    expect(socket.closedWith).toEqual({
      code: 1002,
      reason: 'the peer speaks line protocol 9, this side 1: upgrade the older one',
    });
  });

  test('a text message before HELLO closes the line with 1002', async () => {
    const { line, peer, socket } = lone();
    peer.sendText('{}');
    expect((await line.closed).error?.message).toBe('the peer sent a text message before HELLO');
    expect(socket.closedWith?.code).toBe(1002);
  });

  test('a text message that is no JSON closes the line with 1002', async () => {
    const { dialer, acceptor, near } = lines();
    await dialer.ready;
    near.sendText('not json');
    expect(await acceptor.closed).toMatchObject({ code: 1002, error: { code: 'PARSE_ERROR' } });
    expect((await dialer.closed).error).toMatchObject({ code: 'INTERRUPTED', details: { closeCode: 1002 } });
  });

  test('a binary message that is cut short closes the line with 1002, naming frame and byte', async () => {
    const { acceptor, dialer, near } = lines();
    await dialer.ready;
    near.sendBinary([Uint8Array.of(5, 0, 0, 9, 0, 0, 0, 1, 0)]);
    const { error, code } = await acceptor.closed;
    expect(code).toBe(1002);
    expect(error).toMatchObject({ code: 'PROTOCOL_ERROR', message: expect.stringContaining('DATA frame at byte 0') });
  });

  test('a binary message that is too big closes the line with 1009', async () => {
    const { acceptor, dialer, near } = lines();
    await dialer.ready;
    near.sendBinary([new Uint8Array(256 * 1024 + 1)]);
    expect(await acceptor.closed).toMatchObject({ code: 1009, error: { code: 'PROTOCOL_ERROR' } });
  });

  test('every pending call, opening and stream settles when the line drops', async () => {
    const never: LineHandlers = {
      onRequest: (_method, _params, { signal }) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      onOpen: (stream, meta) => 'open' in meta && stream.accept({}, 10),
    };
    const { clock, dialer, acceptor, near } = lines({ acceptor: { handlers: never } });
    await dialer.ready;
    const call = dialer.peer.call('vm.list', {});
    const channel = await MuxChannel.open(dialer.mux, { open: true });
    const opening = MuxChannel.open(dialer.mux, {});
    const ended = Promise.withResolvers<FairleadError | undefined>();
    channel.attach({ onReadable: () => {}, onDrain: () => {}, onClose: ended.resolve });
    await settle();
    near.cut();
    await expect(call).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await expect(opening).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(await ended.promise).toMatchObject({ code: 'INTERRUPTED', details: { reset: 'SESSION_LOST' } });
    expect(await dialer.closed).toMatchObject({ code: 1006, error: { code: 'INTERRUPTED', message: 'the line dropped' } });
    await acceptor.closed;
    await expect(dialer.peer.call('vm.list', {})).rejects.toMatchObject({
      code: expect.stringMatching(/INTERRUPTED|CONNECT_FAILED/),
    });
    expect(clock.pendingTimers).toBe(0);
  });

  test('closing on purpose tells the other side why, and neither calls it an error', async () => {
    const { dialer, acceptor } = lines();
    await dialer.ready;
    dialer.close(1001, 'the agent stops');
    expect(await dialer.closed).toEqual({ error: undefined, code: 1001, reason: 'the agent stops' });
    expect(await acceptor.closed).toEqual({ error: undefined, code: 1001, reason: 'the agent stops' });
  });

  test('a silent peer is dead after 25 s, and the socket is destroyed without a handshake', async () => {
    const { clock, dialer, far, near } = lines();
    await dialer.ready;
    far.mute();
    for (let second = 0; second < 24; second += 1) {
      clock.advance(1000);
      await settle();
    }
    expect(near.terminated).toBe(false);
    clock.advance(2000);
    expect(near.terminated).toBe(true);
    expect((await dialer.closed).error).toMatchObject({
      code: 'INTERRUPTED',
      message: expect.stringMatching(/has been silent for 25/),
    });
  });

  test('an idle line lives on heartbeats alone and knows its round trip', async () => {
    const { clock, dialer, acceptor } = lines();
    await dialer.ready;
    for (let second = 0; second < 120; second += 1) {
      clock.advance(1000);
      await settle();
    }
    expect(dialer.rttMs).toBeTypeOf('number');
    expect(acceptor.rttMs).toBeTypeOf('number');
    dialer.close();
    await acceptor.closed;
  });

  test('a process that was stopped itself gives the other side another interval', async () => {
    const { clock, dialer, near } = lines();
    await dialer.ready;
    const jump = clock.now.bind(clock);
    let skippedMs = 0;
    clock.now = () => jump() + skippedMs;
    clock.advance(20_000);
    await settle();
    skippedMs = 60_000;
    clock.advance(5_000);
    await settle();
    expect(near.terminated).toBe(false);
    dialer.close();
  });

  test('GOAWAY reaches the handler with drain and spread', async () => {
    const told = Promise.withResolvers<unknown>();
    const { dialer, acceptor } = lines({ dialer: { handlers: { ...echo, onGoAway: told.resolve } } });
    await dialer.ready;
    acceptor.goAway({ drainMs: 30_000, spreadMs: 5_000, reason: 'restart' });
    expect(await told.promise).toMatchObject({ code: 0, drainMs: 30_000, spreadMs: 5_000, reason: 'restart' });
  });

  test('a request handler that fails answers with its error and leaves the line alone', async () => {
    const failing: LineHandlers = { onRequest: () => Promise.reject(new FairleadError('NOT_FOUND', 'no VM is named web')) };
    const { dialer } = lines({ acceptor: { handlers: failing } });
    await expect(dialer.peer.call('vm.get', { vm: 'web' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(dialer.mux.closedWith).toBeUndefined();
  });
});
