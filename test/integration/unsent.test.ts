/** What waits unsent, in Node and in the kernel, on lines that are slower than who writes: a key press or a call waits behind all of it. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { startProgram } from '../../bench/programs.ts';
import { modelledLine } from '../../bench/streams/place.ts';
import { loadNative } from '../../native/index.ts';

const LEAST_BYTES = 32 * 1024;
const HORIZON_MS = 2;
const TIMEOUT_MS = 120_000;
const NAMESPACE = ['--user', '--map-root-user', '--net'];

const native = loadNative();
const missing = native.available ? missingNamespaces() : native.reason;
if (missing !== undefined) console.log(`skipped: ${missing}`);

function missingNamespaces(): string | undefined {
  try {
    const shape = 'tc qdisc add dev lo root tbf rate 100mbit burst 3200 limit 65536';
    execFileSync('unshare', [...NAMESPACE, 'sh', '-c', shape], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'a slow line needs user namespaces and tbf';
  }
}

interface Told {
  readonly looks: readonly number[];
  readonly bytesPerMs: number;
}

/** The most that waited, and the most that may. */
function judged({ looks, bytesPerMs }: Told): { most: number; may: number } {
  return { most: Math.max(...looks), may: Math.max(LEAST_BYTES, HORIZON_MS * bytesPerMs) };
}

describe.skipIf(missing !== undefined)('what waits unsent', { timeout: TIMEOUT_MS }, () => {
  it.each([
    { mbit: 100, streams: 1, receiveBytes: 8192 },
    { mbit: 100, streams: 64, receiveBytes: 8192 },
    { mbit: 100, streams: 64, receiveBytes: 65_536 },
    { mbit: 4, streams: 1, receiveBytes: 8192 },
    { mbit: 4, streams: 64, receiveBytes: 8192 },
  ])('on a line of $mbit Mbit/s whose reader takes $receiveBytes bytes is little beside $streams streams', async (wire) => {
    await using scope = new AsyncDisposableStack();
    const place = await modelledLine(scope, wire);
    // Two seconds, and as many again.
    const bytes = wire.mbit * 250_000;
    const args = { address: place.address, streams: wire.streams, settleBytes: bytes, bytes };
    const writer = scope.use(await startProgram('../test/support/programs/unsent-writer.ts', args, place.hubSide));
    const url = `ws://${place.address}:${String(writer.ready['port'])}`;
    scope.use(await startProgram('../test/support/programs/unsent-reader.ts', { url }, place.agentSide));
    // SAFETY: what the writer tells next.
    const told = (await writer.next()) as unknown as Told;
    const { most, may } = judged(told);
    expect(told.looks.length).toBeGreaterThan(40);
    expect(most).toBeLessThanOrEqual(may);
  });

  it.each([1, 64])('on a long way of 100 Mbit/s whose proxy is the narrow place is little beside %i streams', async (streams) => {
    await using scope = new AsyncDisposableStack();
    // Of the namespace only its small buffers are used: those of the machine take all that may be on its way.
    const { hubSide } = await modelledLine(scope, { mbit: 100, receiveBytes: 16_384 });
    const address = '127.0.0.1';
    const args = { address, streams, settleBytes: 25_000_000, bytes: 25_000_000 };
    const writer = scope.use(await startProgram('../test/support/programs/unsent-writer.ts', args, hubSide));
    const way = { port: writer.ready['port'], bytesPerMs: 12_500, delayMs: 20 };
    const proxy = scope.use(await startProgram('../test/support/programs/delaying-proxy.ts', way, hubSide));
    const url = `ws://${address}:${String(proxy.ready['port'])}`;
    scope.use(await startProgram('../test/support/programs/unsent-reader.ts', { url }, hubSide));
    // SAFETY: what the writer tells next.
    const told = (await writer.next()) as unknown as Told;
    expect(told.looks.length).toBeGreaterThan(40);
    const { most, may } = judged(told);
    expect(most).toBeLessThanOrEqual(may);
  });
});
