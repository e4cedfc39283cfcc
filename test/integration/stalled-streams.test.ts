/** A thousand streams that nobody reads, through a real hub over real sockets. How little they cost others is `npm run bench -- streams`. */
import { expect, it } from 'vitest';
import type { Line } from '../../shared/line/line.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { SESSION_POOL_BYTES } from '../../shared/mux/limits.ts';
import { addTestHost, connectTestOperator, type TestAgent } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

const OPENED = { transport: 'vhost-vsock', halfClose: true, generation: 1 };
const READ_PORT = 7;
const STALLED = 1_000;
const OTHERS = 8;
/** More than any first window. */
const BYTES_EACH = 80 * 1024;
const MIB = 1024 ** 2;
const PATIENT = { timeout: 30_000 };

const open = (line: Line, port: number) => MuxChannel.open(line.mux, { method: 'stream.open', params: { vm: 'web', port } });

/** Sends zeros for as long as the stream lives. */
function pour(channel: MuxChannel): void {
  let isOver = false;
  const more = (): void => {
    if (isOver) return;
    while (channel.write(new Uint8Array(16 * 1024)));
  };
  const onClose = (): void => {
    isOver = true;
  };
  channel.attach({ onReadable() {}, onDrain: () => setImmediate(more), onClose });
  more();
}

it(`${STALLED} streams that nobody reads stay within the pools, others go on, and all is given back`, async () => {
  await using hub = await startTestHub({ maxStreamsPerHost: 1024, maxStreamsPerOperator: 1024 });
  let readBytes = 0;
  let agent: TestAgent | undefined;
  const onOpen: LineHandlers['onOpen'] = (stream, meta) => {
    if (agent === undefined) throw new Error('a stream came before the line');
    const channel = MuxChannel.accept(agent.line.mux, stream, OPENED, meta);
    const onReadable = (): void => {
      for (let chunk = channel.read(); chunk !== undefined; chunk = channel.read()) readBytes += chunk.length;
    };
    if (JSON.stringify(meta).includes(`"port":${READ_PORT}`)) channel.attach({ onReadable, onDrain() {}, onClose() {} });
  };
  agent = await addTestHost(hub, 'h1', { onOpen });
  await using _ = agent;
  await hub.logged('host h1 connected');
  await using operator = await connectTestOperator(hub.url, hub.adminToken);
  const pools = [agent.line.mux.pool, operator.line.mux.pool];
  const others = await Promise.all(Array.from({ length: OTHERS }, () => open(operator.line, READ_PORT)));
  for (const other of others) pour(other);
  await expect.poll(() => readBytes, PATIENT).toBeGreaterThan(8 * MIB);

  const stalled = await Promise.all(Array.from({ length: STALLED }, () => open(operator.line, 1)));
  for (const channel of stalled) channel.write(new Uint8Array(BYTES_EACH));
  // Each has sent what it may and waits.
  await expect
    .poll(() => stalled.every(({ writableBytes }) => writableBytes > 0 && writableBytes < BYTES_EACH), PATIENT)
    .toBe(true);
  for (const { usedBytes } of pools) expect(usedBytes).toBeLessThanOrEqual(SESSION_POOL_BYTES);
  const beside = readBytes;
  await expect.poll(() => readBytes, PATIENT).toBeGreaterThan(beside + 8 * MIB);
  await expect(Promise.all(Array.from({ length: 100 }, () => open(operator.line, 1)))).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
  });
  expect(await operator.line.peer.call('hub.info', {})).toMatchObject({ hostsConnected: 1 });

  operator.line.close();
  await expect.poll(() => [agent?.line.mux.streamCount, ...pools.map(({ usedBytes }) => usedBytes)], PATIENT).toEqual([0, 0, 0]);
});
