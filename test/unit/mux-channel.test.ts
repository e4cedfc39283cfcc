/** Ends of streams: buffers, back pressure, windows and the memory behind them. */
import { describe, expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { MuxPair, openChannels } from '../support/mux-pair.ts';

const WINDOW = 65_536;

function channels(pair?: MuxPair) {
  return openChannels(pair, { meta: { method: 'test' }, answer: { fine: true } });
}

function watch(channel: MuxChannel): string[] {
  const events: string[] = [];
  channel.attach({
    onReadable: () => events.push('readable'),
    onDrain: () => events.push('drain'),
    onDelivered: () => events.push('delivered'),
    onClose: (error) =>
      events.push(error === undefined ? 'closed' : `closed ${error.code} ${JSON.stringify(error.details?.['reset'])}`),
  });
  return events;
}

function readAll(channel: MuxChannel): number {
  let bytes = 0;
  for (let chunk = channel.read(); chunk !== undefined; chunk = channel.read()) bytes += chunk.length;
  return bytes;
}

describe('MuxChannel', () => {
  test('opening resolves with the answer, accepting knows the question', async () => {
    const { near, far } = await channels();
    expect(near.meta).toEqual({ fine: true });
    expect(far.meta).toEqual({ method: 'test' });
    expect(near.id).toBe(far.id);
  });

  test('a refusal rejects the opening and gives the memory back', async () => {
    const pair = new MuxPair();
    const opening = MuxChannel.open(pair.dialer.session, {});
    pair.run();
    pair.acceptor.offers[0]?.stream.refuse(new FairleadError('NOT_FOUND', 'no VM is named web'));
    pair.run();
    await expect(opening).rejects.toMatchObject({ code: 'NOT_FOUND', message: 'no VM is named web' });
    expect(pair.dialer.processPool.usedBytes).toBe(0);
  });

  test('aborting an opening rejects it with the reason and tells the other side', async () => {
    const pair = new MuxPair();
    const abort = new AbortController();
    const opening = MuxChannel.open(pair.dialer.session, {}, { signal: abort.signal });
    pair.run();
    abort.abort(new FairleadError('TIMEOUT', 'too slow'));
    pair.run();
    await expect(opening).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
    expect(pair.dialer.processPool.usedBytes).toBe(0);
  });

  test('an opening that the line ends under is rejected with INTERRUPTED', async () => {
    const pair = new MuxPair();
    const opening = MuxChannel.open(pair.dialer.session, {});
    pair.dialer.session.close(new FairleadError('INTERRUPTED', 'cut'));
    await expect(opening).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await expect(MuxChannel.open(pair.dialer.session, {})).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect(pair.dialer.processPool.usedBytes).toBe(0);
  });

  test('credit comes back when the reader reads, not when data arrives', async () => {
    const { pair, near, far } = await channels();
    near.write(new Uint8Array(3 * WINDOW));
    pair.run();
    expect(far.readableBytes).toBe(WINDOW);
    far.read();
    pair.run();
    expect(far.readableBytes).toBe(WINDOW - 16_384);
    far.read();
    pair.run();
    expect(far.readableBytes).toBe(WINDOW);
    expect(near.writableBytes).toBe(2 * WINDOW - 32_768);
  });

  test('the window doubles while the reader keeps up, up to 1 MiB', async () => {
    const { pair, near, far } = await channels();
    const windows = new Set<number>();
    near.write(new Uint8Array(100 * WINDOW));
    for (let turn = 0; turn < 20; turn += 1) {
      pair.acceptor.nowMs += 2;
      pair.run();
      readAll(far);
      windows.add(far.windowBytes);
    }
    expect([...windows]).toEqual([2, 4, 8, 16].map((factor) => factor * WINDOW));
    expect(pair.acceptor.processPool.usedBytes).toBe(16 * WINDOW);
  });

  test('the window stays as it is for a reader that is always behind', async () => {
    const { pair, near, far } = await channels();
    near.write(new Uint8Array(20 * WINDOW));
    for (let read = 0; read < 60; read += 1) {
      pair.run();
      far.read();
    }
    expect(far.windowBytes).toBe(WINDOW);
  });

  test('a window does not grow beyond the memory that is left', async () => {
    const pool = new MemoryPool(4 * WINDOW);
    const { pair, near, far } = await channels(new MuxPair({ acceptor: { pool } }));
    for (let sent = 0; sent < 20; sent += 1) {
      near.write(new Uint8Array(WINDOW));
      pair.run();
      readAll(far);
    }
    expect(far.windowBytes).toBe(2 * WINDOW);
    expect(near.writableBytes).toBe(0);
  });

  test('a stream for which no memory is left is refused with LIMIT_EXCEEDED, on either side', async () => {
    const [one, two] = [new MemoryPool(WINDOW / 4), new MemoryPool(WINDOW / 2)];
    const pair = new MuxPair({ acceptor: { pool: one }, dialer: { pool: two } });
    await channels(pair);
    const second = MuxChannel.open(pair.dialer.session, {});
    pair.run();
    const offer = pair.acceptor.offers[1];
    if (offer === undefined) throw new Error('the stream did not arrive');
    expect(() => MuxChannel.accept(pair.acceptor.session, offer.stream, {})).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED' }),
    );
    const third = MuxChannel.open(pair.dialer.session, {});
    await expect(third).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    pair.run();
    await expect(second).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(pair.dialer.processPool.usedBytes).toBe(WINDOW / 4);
  });

  test('write says when to wait and onDrain when to go on', async () => {
    const { pair, near, far } = await channels();
    const events = watch(near);
    expect(near.write(new Uint8Array(100_000))).toBe(true);
    expect(near.write(new Uint8Array(100_000))).toBe(false);
    pair.run();
    expect(events).toEqual([]);
    readAll(far);
    pair.run();
    expect(events).toEqual(['drain']);
  });

  test('half-close: the end comes after the data, and the other direction goes on', async () => {
    const { pair, near, far } = await channels();
    const [nearEvents, farEvents] = [watch(near), watch(far)];
    near.write(new Uint8Array(10));
    near.end();
    pair.run();
    expect(far.ended).toBe(false);
    expect(readAll(far)).toBe(10);
    expect(far.ended).toBe(true);
    far.write(new Uint8Array(20));
    far.end();
    pair.run();
    expect(readAll(near)).toBe(20);
    pair.run();
    expect([nearEvents.at(-1), farEvents.at(-1)]).toEqual(['closed', 'closed']);
    expect([pair.dialer.processPool.usedBytes, pair.acceptor.processPool.usedBytes]).toEqual([0, 0]);
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
  });

  test('nothing is delivered before its reader has consumed the last byte', async () => {
    const { pair, near, far } = await channels();
    const [nearEvents, farEvents] = [watch(near), watch(far)];
    near.write(new Uint8Array(10));
    near.end();
    far.end();
    pair.run();
    expect(nearEvents).not.toContain('delivered');
    expect(far.take()?.length).toBe(10);
    far.consumed(9);
    pair.run();
    expect(nearEvents).not.toContain('delivered');
    expect(farEvents).not.toContain('closed');
    far.consumed(1);
    pair.run();
    expect(nearEvents.slice(-2)).toEqual(['delivered', 'closed']);
    expect(farEvents.at(-1)).toBe('closed');
    expect([pair.dialer.processPool.usedBytes, pair.acceptor.processPool.usedBytes]).toEqual([0, 0]);
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
  });

  test('what arrived before an orderly end is read after it, and its memory stays reserved until then', async () => {
    const { pair, near, far } = await channels();
    far.end();
    near.write(new Uint8Array(WINDOW));
    near.end();
    pair.run();
    expect(pair.acceptor.processPool.usedBytes).toBe(WINDOW);
    expect(readAll(far)).toBe(WINDOW);
    expect(pair.acceptor.processPool.usedBytes).toBe(0);
  });

  test('a reset reaches both users with its code and gives all memory back', async () => {
    const { pair, near, far } = await channels();
    const [nearEvents, farEvents] = [watch(near), watch(far)];
    far.write(new Uint8Array(100));
    pair.run();
    near.reset(RESET_CODES.NO_DEVICE, 'gone');
    near.reset(RESET_CODES.INTERNAL, 'again');
    pair.run();
    expect(nearEvents).toEqual(['readable', 'closed STREAM_RESET "NO_DEVICE"']);
    expect(farEvents).toEqual(['closed STREAM_RESET "NO_DEVICE"']);
    expect([pair.dialer.processPool.usedBytes, pair.acceptor.processPool.usedBytes]).toEqual([0, 0]);
    expect(far.write(new Uint8Array(1))).toBe(true);
  });

  test('the end of the session reaches both users as INTERRUPTED', async () => {
    const { pair, near } = await channels();
    const events = watch(near);
    pair.dialer.session.close(new FairleadError('INTERRUPTED', 'cut'));
    expect(events).toEqual(['closed INTERRUPTED "SESSION_LOST"']);
    expect(pair.dialer.processPool.usedBytes).toBe(0);
  });

  test('a user that attaches late is told what it missed', async () => {
    const { pair, near, far } = await channels();
    near.write(new Uint8Array(5));
    near.end();
    far.end();
    pair.run();
    expect(watch(far)).toEqual(['readable', 'delivered']);
    expect(readAll(far)).toBe(5);
    expect(watch(far)).toEqual(['readable', 'delivered', 'closed']);
  });

  test('bytes sent one by one wait as few chunks and come out as they went in', async () => {
    const { pair, near, far } = await channels();
    const sent = Array.from({ length: 3000 }, (_, index) => index % 251);
    for (const byte of sent) {
      near.write(Uint8Array.of(byte));
      pair.run();
    }
    const chunks: Uint8Array[] = [];
    for (let chunk = far.read(); chunk !== undefined; chunk = far.read()) chunks.push(chunk);
    expect(chunks.length).toBeLessThan(4);
    expect(Buffer.concat(chunks).equals(Buffer.from(sent))).toBe(true);
  });
});
