/** The long form of test/guest/vm-suspend.test.ts: 50 suspends and resumes, with agents that are killed at random in between. */
import { expect, test } from 'vitest';
import { whyNoLinux } from '../support/linux-vm.ts';
import { runSleepCycles } from '../support/sleep-cycles.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const CYCLES = 50;

test.skipIf(missing !== undefined)(`${CYCLES} cycles of sleep under agents that die cost a guest nothing`, async () => {
  const startedAt = performance.now();
  const found = await runSleepCycles({ cycles: CYCLES, random: Math.random });
  console.log(`${CYCLES} cycles in ${((performance.now() - startedAt) / 1000).toFixed(0)} s; found ${JSON.stringify(found)}`);
  expect(Object.keys(found).every((state) => ['running', 'suspended', 'suspending', 'resuming'].includes(state))).toBe(true);
});
