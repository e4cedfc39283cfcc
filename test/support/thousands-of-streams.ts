/**
 * Thousands of streams into one port of one real guest: all asked for at once by the client library, all open at the same time, each with bytes
 * of its own, all ended. The demo guest has a process for each, and lets 256 wait until it has one.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestFleet } from './up.ts';

const VM = 'web';
const ECHO_PORT = 7;
const RUN_PORT = 1024;
const ROUNDS = 2;
const MOST_BYTES = 2_048;
/** Between two looks at what ends by itself. */
const LOOK_MS = 100;

export interface ThousandsOptions {
  readonly streams: number;
  /** For a guest that is behind with all of them, on however busy a machine. */
  readonly connectTimeoutMs: number;
}

/** Starts the guest. @returns what took how long. @throws AssertionError */
export async function exchangeThousands(
  fleet: TestFleet,
  { streams: count, connectTimeoutMs }: ThousandsOptions,
): Promise<string> {
  const limits = { connectTimeoutMs, timeoutMs: connectTimeoutMs };
  const open = (port: number): Promise<Duplex> => fleet.hub.client.openStream(VM, port, limits);
  /** Processes of the guest that serve the echo. */
  const guestEchoes = async (): Promise<number> => {
    const stream = await open(RUN_PORT);
    stream.end('grep -shx cat /proc/[0-9]*/comm | wc -l\n');
    return Number(await text(stream));
  };
  let since = performance.now();
  const took: string[] = [];
  const done = (what: string): void => {
    const now = performance.now();
    took.push(`${what} ${((now - since) / 1000).toFixed(1)} s`);
    since = now;
  };

  // A process of the guest is about 100 KiB.
  await fleet.runReady(VM, { memory: '512MiB' });
  const { vsock } = await fleet.hub.call('vm.get', { vm: VM });
  const echoesBefore = await guestEchoes();
  await becomes(0, () => openStreams(fleet));
  done('started in');

  const streams = await Promise.all(Array.from({ length: count }, () => open(ECHO_PORT)));
  assert.equal(await openStreams(fleet), count);
  done(`${count} streams over ${vsock?.transport} opened in`);

  for (let round = 0; round < ROUNDS; round += 1) {
    const sent = streams.map(() => randomBytes(1 + Math.floor(Math.random() * MOST_BYTES)));
    const echoes = await Promise.all(streams.map((stream, index) => echoOf(stream, sent[index] ?? Buffer.alloc(0))));
    const changed = echoes.filter((echo, index) => sent[index]?.equals(echo) !== true);
    assert.equal(changed.length, 0);
    assert.equal(await openStreams(fleet), count);
  }
  assert.equal(await guestEchoes(), echoesBefore + count);
  done(`${ROUNDS} rounds of echoes in`);

  // The guest ends its half as soon as it is told that ours has ended; where nobody can tell it, it goes on until the stream is given up.
  const readable = vsock?.halfClose === true;
  await Promise.all(streams.map((stream) => finished(stream.resume().end(), { readable })));
  for (const stream of streams) stream.destroy();
  await becomes(0, () => openStreams(fleet));
  await becomes(echoesBefore, guestEchoes);
  done('ended in');
  return took.join(', ');
}

/** As the agent counts them. */
async function openStreams({ up }: TestFleet): Promise<number> {
  const page = await (await fetch(`${up.agentUrl}/metrics`)).text();
  return Number(/^fairlead_streams_open (\d+)$/m.exec(page)?.[1]);
}

/** The caller's own time limit bounds it. */
async function becomes(wanted: number, look: () => Promise<number>): Promise<void> {
  while ((await look()) !== wanted) await sleep(LOOK_MS);
}

/** As many bytes as were sent, without an end of either half. */
async function echoOf(stream: Duplex, sent: Buffer): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= sent.length) resolve(Buffer.concat(chunks));
  };
  const onEnd = (): void => reject(new Error(`the echo ended after ${bytes} of ${sent.length} bytes`));
  stream.on('data', onData).on('end', onEnd).on('error', reject).write(sent);
  try {
    return await promise;
  } finally {
    stream.off('data', onData).off('end', onEnd).off('error', reject);
  }
}
