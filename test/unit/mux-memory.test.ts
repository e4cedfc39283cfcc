/** Memory that the other side commands: what is kept until it is acked, and windows that are given back. */
import { describe, expect, test } from 'vitest';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { ReceiveWindow } from '../../shared/mux/receive-window.ts';
import { MuxPair, Recorder } from '../support/mux-pair.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const CREDIT = 16 * MIB;

/** A stream whose other end gives credit for 16 MiB. */
function generous(pool = new MemoryPool(512 * MIB)) {
  const pair = new MuxPair({ dialer: { pool } });
  const stream = pair.dialer.session.open({}, new Recorder(), 0);
  pair.run();
  const offer = pair.acceptor.offers[0];
  if (offer === undefined) throw new Error('the stream did not arrive');
  const far = new Recorder();
  offer.stream.attach(far);
  offer.stream.accept({}, CREDIT);
  pair.run();
  return { pair, stream, far, farStream: offer.stream };
}

describe('what is sent and not acked', () => {
  test('is at most 1 MiB a stream, whatever credit there is, and counts in the pool', () => {
    const { pair, stream, far } = generous();
    stream.send(new Uint8Array(4 * MIB));
    pair.run();
    expect(far.bytes).toBe(MIB);
    expect(pair.dialer.processPool.usedBytes).toBe(MIB - 64 * KIB);
  });

  test('is 64 KiB where no memory is left, and goes on with each ack', () => {
    const { pair, stream, far, farStream } = generous(new MemoryPool(0));
    stream.send(new Uint8Array(300 * KIB));
    stream.fin();
    pair.run();
    expect(far.bytes).toBe(64 * KIB);
    for (let turn = 0; turn < 5; turn += 1) {
      farStream.grant(CREDIT, far.bytes);
      pair.run();
    }
    expect([far.bytes, far.events.at(-1)]).toEqual([300 * KIB, 'fin']);
  });

  test('is given back when it is acked, and when the stream is reset', () => {
    const { pair, stream, far, farStream } = generous();
    stream.send(new Uint8Array(MIB));
    pair.run();
    farStream.grant(CREDIT, far.bytes);
    pair.run();
    expect(pair.dialer.processPool.usedBytes).toBe(0);
    stream.send(new Uint8Array(MIB));
    pair.run();
    stream.reset(1, '');
    expect(pair.dialer.processPool.usedBytes).toBe(0);
  });

  test('reaches a reader whose window is greater than what its sender may keep', async () => {
    const pair = new MuxPair({ dialer: { pool: new MemoryPool(128 * KIB) } });
    const opening = MuxChannel.open(pair.dialer.session, {});
    pair.run();
    const offer = pair.acceptor.offers[0];
    if (offer === undefined) throw new Error('the stream did not arrive');
    const reader = MuxChannel.accept(pair.acceptor.session, offer.stream, {});
    pair.run();
    const writer = await opening;
    writer.write(new Uint8Array(8 * MIB));
    let read = 0;
    for (let turn = 0; turn < 1000; turn += 1) {
      pair.run();
      for (let chunk = reader.read(); chunk !== undefined; chunk = reader.read()) read += chunk.length;
    }
    expect(read).toBe(8 * MIB);
  });
});

describe('a window', () => {
  /** Lets so many bytes come and be read, all of the credit at a time or only a little. */
  function flow(window: ReceiveWindow, bytes: number, step: number, exhausted: boolean): void {
    for (let done = 0; done < bytes; done += step) {
      window.received(step, exhausted);
      window.consumed(step);
    }
  }

  test('grows while it is what holds the stream up, and shrinks when it is not any more', () => {
    const pool = new MemoryPool(4 * MIB);
    pool.reserve(64 * KIB);
    const window = new ReceiveWindow(pool, 64 * KIB, MIB);
    flow(window, 4 * MIB, 16 * KIB, true);
    expect([window.windowBytes, pool.usedBytes]).toEqual([MIB, MIB]);
    flow(window, 200 * MIB, 16 * KIB, false);
    expect([window.windowBytes, pool.usedBytes]).toEqual([64 * KIB, 64 * KIB]);
    window.release();
    expect(pool.usedBytes).toBe(0);
  });

  test('never promises more than is reserved while it shrinks', () => {
    const pool = new MemoryPool(4 * MIB);
    pool.reserve(64 * KIB);
    const window = new ReceiveWindow(pool, 64 * KIB, MIB);
    flow(window, 4 * MIB, 16 * KIB, true);
    let [consumed, limit] = [4 * MIB, 4 * MIB + window.windowBytes];
    for (; consumed < 200 * MIB; consumed += 16 * KIB) {
      expect(limit - consumed).toBeLessThanOrEqual(pool.usedBytes);
      window.received(16 * KIB, false);
      limit = window.consumed(16 * KIB)?.limit ?? limit;
    }
  });
});
