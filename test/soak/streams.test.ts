/** The long form of test/guest/line.test.ts: 64 streams into one guest at once, 20 MiB each way. */
import { expect, it } from 'vitest';
import { echoThrough } from '../support/echo-storm.ts';
import { startFleet } from '../support/up.ts';

const STREAMS = 64;
const BYTES_A_STREAM = 20 * 1024 ** 2;

it(`${STREAMS} streams of ${BYTES_A_STREAM} random bytes each way through hub, agent and guest`, async () => {
  await using fleet = await startFleet();
  await fleet.runReady('web', { memory: '512MiB' });
  const started = performance.now();
  const results = await Promise.all(
    Array.from({ length: STREAMS }, async () => {
      const { stream } = await fleet.hub.openStream({ vm: 'web', port: 7, connectTimeoutMs: 120_000 });
      return echoThrough(stream, BYTES_A_STREAM);
    }),
  );
  for (const result of results) expect(result).toMatchObject({ receivedBytes: BYTES_A_STREAM, receivedHash: result.sentHash });
  const seconds = (performance.now() - started) / 1000;
  console.log(`${((STREAMS * BYTES_A_STREAM) / 1024 ** 2 / seconds).toFixed(1)} MiB/s each way, ${seconds.toFixed(0)} s`);
});
