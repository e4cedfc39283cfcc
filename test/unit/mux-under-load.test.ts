/** What bulk does to everything else on its line, and to itself: operator, hub and agent on virtual time. */
import { describe, expect, test, vi } from 'vitest';
import { SESSION_POOL_BYTES } from '../../shared/mux/limits.ts';
import { FAST, ModelledFleet, pourInto, SLOW, type Wire } from '../support/modelled-line.ts';

vi.setConfig({ testTimeout: 120_000 });

const MIB = 1024 ** 2;
const BULK = 64;
const LIMIT_MS = 15;

/** Operator, hub and agent with streams that are poured into and read. */
async function busy(toHub: Wire, toAgent: Wire, streams: number): Promise<ModelledFleet> {
  const fleet = new ModelledFleet(toHub, toAgent);
  await fleet.until(Promise.all([fleet.operator.ready, fleet.agent.ready]));
  for (let index = 0; index < streams; index++) pourInto(await fleet.open(`bulk${index}`));
  return fleet;
}

/** What each stream got in so long. */
async function shares(fleet: ModelledFleet, ms: number): Promise<number[]> {
  const before = new Map(fleet.read);
  await fleet.run(ms);
  return [...fleet.read].filter(([name]) => name.startsWith('bulk')).map(([name, bytes]) => bytes - (before.get(name) ?? 0));
}

/** The longest of `times` one after another, each a little after the last: longer than any p99. */
async function longest(fleet: ModelledFleet, times: number, ping: () => Promise<unknown>): Promise<number> {
  let longestMs = 0;
  for (let done = 0; done < times; done++) {
    await fleet.run(1 + (done % 7));
    const before = fleet.clock.now();
    await fleet.until(ping());
    longestMs = Math.max(longestMs, fleet.clock.now() - before);
  }
  return longestMs;
}

async function keystrokes(fleet: ModelledFleet): Promise<() => Promise<void>> {
  const channel = await fleet.open('echo');
  let back = Promise.withResolvers<void>();
  const onReadable = (): void => {
    if (channel.read() !== undefined) back.resolve();
  };
  channel.attach({ onReadable, onDrain: () => {}, onClose: () => {} });
  return () => {
    back = Promise.withResolvers();
    channel.write(Uint8Array.of(0x6b));
    return back.promise;
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const jain = (values: readonly number[]): number => sum(values) ** 2 / (values.length * sum(values.map((value) => value ** 2)));

describe('64 streams that fill a line of 100 Mbit/s', () => {
  test.each([
    ['behind', FAST, SLOW],
    ['in front of', SLOW, FAST],
  ])('%s the hub leave calls and key presses within 15 ms, use the line, and share it', async (_where, front, back) => {
    const fleet = await busy(front, back, BULK);
    await fleet.run(500);
    const calls = await longest(fleet, 100, () => fleet.operator.peer.call('vm.list', {}));
    const keys = await longest(fleet, 100, await keystrokes(fleet));
    expect(Math.max(calls, keys)).toBeLessThan(LIMIT_MS);
    const got = await shares(fleet, 500);
    expect(sum(got)).toBeGreaterThan(0.9 * 500 * SLOW.bytesPerMs);
    expect(jain(got)).toBeGreaterThan(0.95);
  });
});

describe('streams that fill a fast line', () => {
  const WIRE: Wire = { ...FAST, bytesPerMs: 250_000 };

  test.each([
    [1, 2],
    [16, 3],
  ])('%i of them leave calls and key presses within %i ms, and use the line', async (streams, limitMs) => {
    const fleet = await busy(WIRE, WIRE, streams);
    await fleet.run(60);
    const calls = await longest(fleet, 15, () => fleet.operator.peer.call('vm.list', {}));
    const keys = await longest(fleet, 15, await keystrokes(fleet));
    expect(Math.max(calls, keys)).toBeLessThan(limitMs);
    const got = await shares(fleet, 50);
    expect(sum(got)).toBeGreaterThan(0.9 * 50 * WIRE.bytesPerMs);
  });

  test('have the same of it, those that came later too', async () => {
    const fleet = await busy(WIRE, WIRE, 8);
    await fleet.run(60);
    for (let index = 8; index < 16; index++) pourInto(await fleet.open(`bulk${index}`));
    await fleet.run(60);
    const got = await shares(fleet, 50);
    expect(jain(got)).toBeGreaterThan(0.98);
  });
});

describe('a stream alone', () => {
  test.each([1, 20, 80])('uses a line of 100 Mbit/s that takes %i ms each way', async (delayMs) => {
    const fleet = await busy(FAST, { ...SLOW, delayMs, kernelBytes: 4 * MIB }, 1);
    await fleet.run(3_000);
    // What a window of 1 MiB lets through at most, in a round trip.
    const most = Math.min(SLOW.bytesPerMs, MIB / (2 * delayMs + 1));
    expect(sum(await shares(fleet, 500))).toBeGreaterThan(0.7 * 500 * most);
  });

  test('goes on as fast when the way is measured anew', async () => {
    const bytesPerMs = SLOW.bytesPerMs / 10;
    const fleet = await busy(FAST, { ...SLOW, bytesPerMs }, 1);
    await fleet.run(9_000);
    expect(sum(await shares(fleet, 4_000))).toBeGreaterThan(0.9 * 4_000 * bytesPerMs);
  });
});

test('1,000 streams that nobody reads leave others within 5 %, and memory within the pools', async () => {
  const fleet = await busy({ ...FAST, bytesPerMs: 100_000 }, { ...FAST, bytesPerMs: 50_000 }, 8);
  await fleet.run(200);
  const before = sum(await shares(fleet, 200));
  for (let index = 0; index < 1_000; index++) pourInto(await fleet.open(`stalled${index}`), MIB / 2);
  await fleet.run(200);
  expect(sum(await shares(fleet, 200)) / before).toBeGreaterThan(0.95);
  for (const pool of fleet.pools) expect(pool.usedBytes).toBeLessThanOrEqual(2 * SESSION_POOL_BYTES);
  const sessions = [fleet.operator, ...fleet.hub, fleet.agent];
  for (const { mux } of sessions) expect(mux.pool.usedBytes).toBeLessThanOrEqual(SESSION_POOL_BYTES);
  expect(fleet.agent.mux.streamCount).toBe(1_008);
});
