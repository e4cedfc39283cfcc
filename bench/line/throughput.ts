/** Bytes from the operator through hub and agent into a unix socket, by one stream, against the bare relay into the same. */
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { HubConnection } from '../../cli/connection.ts';
import type { Measurement, Sides } from '../measure.ts';
import { type Program, startProgram } from '../programs.ts';
import { HOST, startHub } from './fixture.ts';
import { openRelay } from './relay.ts';

const MIB = 1024 ** 2;
const CHUNK = Buffer.alloc(64 * 1024, 0x5a);
const RUN_BYTES = 256 * MIB;
/** Until code is compiled on both sides. */
const WARM_UP_RUNS = 3;
/** What the baseline's operator lets its socket hold; the relay's own mark is the same. */
const HIGH_WATER_BYTES = MIB;

export function throughput(directory: string): Measurement {
  return {
    name: 'stream throughput',
    unit: 'MiB/s',
    direction: 'at-least',
    kind: 'ratio',
    limit: 0.6,
    prepare: () => prepare(directory),
  };
}

async function prepare(parent: string): Promise<Sides> {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(parent, 't'));
  const path = join(directory, 'sink');
  const sink = scope.use(await startProgram('line/programs/sink.ts', { path, batchBytes: RUN_BYTES }));
  const hub = await startHub(scope, parent);
  const args = { hub: hub.url, token: hub.enrolToken, host: HOST, stateDir: join(directory, 'state'), path };
  scope.use(await startProgram('line/programs/sink-agent.ts', args));
  await hub.connected();
  const operator = await hub.operator();
  const relay = await openRelay(scope, path, { lines: false });

  const ours = () => throughStream(operator, sink);
  const baseline = () => speedOf(sink, () => pourMessages(relay));
  for (let run = 0; run < WARM_UP_RUNS; run++) {
    await ours();
    await baseline();
  }
  const all = scope.move();
  return { ours, baseline, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** MiB/s from the first byte written to the last one that the sink had. */
async function speedOf(sink: Program, pour: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await Promise.all([pour(), sink.next()]);
  return RUN_BYTES / MIB / ((performance.now() - before) / 1000);
}

async function throughStream(operator: HubConnection, sink: Program): Promise<number> {
  const { stream } = await operator.openStream({ vm: 'sink', port: 1 }, { host: HOST });
  const speed = await speedOf(sink, () => pour(stream, RUN_BYTES));
  await finish(stream);
  return speed;
}

async function pour(stream: Duplex, bytes: number): Promise<void> {
  for (let written = 0; written < bytes; written += CHUNK.length) {
    if (!stream.write(CHUNK)) await once(stream, 'drain');
  }
}

async function finish(stream: Duplex): Promise<void> {
  const closed = once(stream, 'close');
  stream.resume().end();
  await closed;
}

async function pourMessages(relay: WebSocket): Promise<void> {
  for (let written = 0; written < RUN_BYTES; written += CHUNK.length) {
    const { promise: taken, resolve } = Promise.withResolvers<void>();
    relay.send(CHUNK, { binary: true }, () => resolve());
    if (relay.bufferedAmount > HIGH_WATER_BYTES) await taken;
  }
}
