/** The short form of test/soak/vm-cycles.test.ts. */
import { expect, test } from 'vitest';
import { runCycles, whyNoCycles } from '../support/vm-cycles.ts';

const missing = whyNoCycles();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('ten starts and stops of a VM leave nothing', async () => {
  const { grownBytes } = await runCycles({ cycles: 10, warmUp: 3 });
  expect(grownBytes).toBeLessThan(32 * 1024 ** 2);
});
