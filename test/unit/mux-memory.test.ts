/** Memory that the other side commands: what is kept until it is acked, windows that are given back, and streams that do nothing. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { DEFAULT_MUX_LIMITS, PROCESS_POOL_BYTES, SESSION_POOL_BYTES } from '../../shared/mux/limits.ts';
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
  /** At once, unless `flow` is told that a read takes a while. */
  function window(pool = new MemoryPool(16 * MIB)) {
    let nowMs = 0;
    const initialBytes = pool.reserveFirst(64 * KIB);
    const own = new ReceiveWindow({ pool, initialBytes, maxBytes: MIB, now: () => nowMs });
    /** Lets so many bytes come and be read, all of the credit at a time or only a little. */
    const flow = (bytes: number, step: number, exhausted: boolean, stepMs = 0): void => {
      for (let done = 0; done < bytes; done += step) {
        nowMs += stepMs;
        own.received(step, exhausted);
        own.consumed(step);
      }
    };
    /** Whole windows, as fast as a way of `roundTripMs` lets them through. Returns their bytes. */
    const widen = (roundTripMs: number): number => {
      let bytes = 0;
      for (let round = 0; round < 16; round += 1) {
        bytes += own.windowBytes;
        flow(own.windowBytes, own.windowBytes, true, roundTripMs);
      }
      return bytes;
    };
    return { pool, window: own, flow, widen };
  }

  test('grows while it is what holds the stream up, and shrinks when it is not any more', () => {
    const { pool, window: own, flow, widen } = window();
    widen(1);
    expect([own.windowBytes, pool.usedBytes]).toEqual([MIB, MIB]);
    flow(200 * MIB, 16 * KIB, false);
    expect([own.windowBytes, pool.usedBytes]).toEqual([64 * KIB, 64 * KIB]);
    own.release();
    expect(pool.usedBytes).toBe(0);
  });

  test('grows to what passes in two round trips, and no further', () => {
    const { window: own, flow } = window();
    // 100 bytes a millisecond could pass, and the credit of a window is back after 1,280 ms.
    for (let round = 0; round < 40; round += 1)
      flow(own.windowBytes, own.windowBytes, true, Math.max(1280, own.windowBytes / 100));
    expect(own.windowBytes).toBe(256 * KIB);
  });

  test('leaves the last step out on a way of less than half a millisecond, and takes it on a longer one', () => {
    const { window: own, pool, widen } = window();
    widen(0.4);
    expect([own.windowBytes, pool.usedBytes]).toEqual([512 * KIB, 512 * KIB]);
    own.rerouted();
    widen(1);
    expect([own.windowBytes, pool.usedBytes]).toEqual([MIB, MIB]);
  });

  test('learns of a way anew on another line', () => {
    const { window: own, flow, widen } = window();
    flow(16 * KIB, 16 * KIB, true, 0.1);
    expect(own.windowBytes).toBe(64 * KIB);
    own.rerouted();
    widen(50);
    expect(own.windowBytes).toBe(MIB);
  });

  test('does not grow where a sender waits for its turn among many, however often it runs dry', () => {
    const { window: own, flow } = window();
    flow(16 * KIB, 16 * KIB, true, 2);
    // A line of 100 Mbit/s for 64 of them: a frame each 84 ms, of which the way takes 2.
    flow(64 * MIB, 16 * KIB, true, 84);
    expect(own.windowBytes).toBe(64 * KIB);
  });

  test('shrinks where it has run dry without being too small for long', () => {
    const { window: own, flow, widen } = window();
    widen(1);
    flow(64 * MIB, 16 * KIB, true, 84);
    expect(own.windowBytes).toBe(64 * KIB);
  });

  test('never promises more than is reserved while it shrinks', () => {
    const { pool, window: own, widen } = window();
    let consumed = widen(1);
    let limit = consumed + own.windowBytes;
    for (; consumed < 200 * MIB; consumed += 16 * KIB) {
      expect(limit - consumed).toBeLessThanOrEqual(pool.usedBytes);
      own.received(16 * KIB, false);
      limit = own.consumed(16 * KIB)?.limit ?? limit;
    }
  });

  test('acks what a sender that cannot go on has sent, also while it shrinks and gives no credit', () => {
    const { window: own, flow, widen } = window();
    let consumed = widen(1);
    let unanswered = 0;
    while (consumed < 200 * MIB) {
      flow(16 * KIB, 16 * KIB, false, 84);
      own.received(16 * KIB, true);
      consumed += 32 * KIB;
      if (own.consumed(16 * KIB)?.acked !== consumed) unanswered += 1;
    }
    expect(unanswered).toBe(0);
  });

  test('that has grown leaves room for as many new streams as a line may have', () => {
    const pool = new MemoryPool(SESSION_POOL_BYTES, new MemoryPool(PROCESS_POOL_BYTES));
    const grown = Array.from({ length: 100 }, () => window(pool));
    for (let times = 0; times < 6; times += 1) for (const { widen } of grown) widen(1);
    expect(pool.usedBytes).toBeGreaterThan(0.7 * SESSION_POOL_BYTES);
    const first = Array.from({ length: DEFAULT_MUX_LIMITS.maxStreams }, () => pool.reserveFirst(64 * KIB));
    expect(Math.min(...first)).toBe(16 * KIB);
    expect(pool.usedBytes).toBeLessThanOrEqual(SESSION_POOL_BYTES);
  });

  test('of each of a thousand that nobody reads leaves room for some to grow', () => {
    const pool = new MemoryPool(SESSION_POOL_BYTES, new MemoryPool(PROCESS_POOL_BYTES));
    for (let opened = 0; opened < 1000; opened += 1) {
      const { window: own, flow } = window(pool);
      // The socket behind it takes so much at once.
      for (let taken = 0; taken < 256 * KIB; taken += own.windowBytes) flow(own.windowBytes, own.windowBytes, true, 1);
    }
    const grown = Array.from({ length: 8 }, () => window(pool));
    for (let times = 0; times < 6; times += 1) for (const { widen } of grown) widen(1);
    expect(Math.min(...grown.map(({ window: { windowBytes } }) => windowBytes))).toBeGreaterThanOrEqual(512 * KIB);
  });

  test('is as great as ever for a new stream while three quarters of the memory are left, also of the process', () => {
    const parent = new MemoryPool(512 * KIB);
    const pool = new MemoryPool(16 * MIB, parent);
    expect([1, 2, 3, 4, 5, 6, 7].map(() => pool.reserveFirst(64 * KIB) / KIB)).toEqual([64, 64, 32, 32, 32, 16, 16]);
    expect([pool.reserveMore(128 * KIB, true), pool.reserveMore(KIB, true), parent.usedBytes]).toEqual([true, false, 384 * KIB]);
  });
});

describe('an idle stream', () => {
  const program = fileURLToPath(new URL('../support/programs/idle-stream-cost.ts', import.meta.url));

  async function bytesOf(side: 'opener' | 'acceptor' | 'relay'): Promise<number> {
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', program, side]);
    const bytes = Number.parseInt(stdout, 10);
    // Less than two keys and the objects that they are in: nothing was measured.
    expect(bytes).toBeGreaterThan(256);
    return bytes;
  }

  test('costs under 1 KiB at each end', async () => {
    const [opener, acceptor] = await Promise.all([bytesOf('opener'), bytesOf('acceptor')]);
    expect(opener).toBeLessThan(KIB);
    expect(acceptor).toBeLessThan(KIB);
  }, 60_000);

  test('costs a hub that relays it under 2.5 KiB', async () => {
    expect(await bytesOf('relay')).toBeLessThan(2.5 * KIB);
  }, 60_000);
});
