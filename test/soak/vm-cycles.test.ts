/** The long form of test/guest/vm-cycles.test.ts: 200 starts and stops, after which the agent is as large as after 20. */
import { expect, test } from 'vitest';
import { runCycles, whyNoCycles } from '../support/vm-cycles.ts';

const missing = whyNoCycles();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const CYCLES = 200;
const WARM_UP = 20;
const GROWN_BYTES = 10 * 1024 ** 2;

test.skipIf(missing !== undefined)(`${CYCLES} starts and stops leave nothing, and the agent's memory is flat`, async () => {
  const startedAt = performance.now();
  const { grownBytes } = await runCycles({ cycles: CYCLES, warmUp: WARM_UP });
  const seconds = (performance.now() - startedAt) / 1000;
  console.log(`${CYCLES} cycles in ${seconds.toFixed(0)} s; resident memory grew by ${(grownBytes / 1024 ** 2).toFixed(1)} MiB`);
  expect(grownBytes).toBeLessThan(GROWN_BYTES);
});
