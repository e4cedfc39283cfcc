/** The long form of test/property/mux-fuzz.test.ts: an hour, or FUZZ_MINUTES. */
import { expect, it } from 'vitest';
import { fuzz } from '../support/frame-fuzz.ts';

const MINUTES = Number(process.env['FUZZ_MINUTES'] ?? 60);
const AT_MOST_RUNS = 1e9;

it(`random frames for ${MINUTES} minutes do no harm`, { timeout: (MINUTES + 5) * 60_000 }, () => {
  const until = performance.now() + MINUTES * 60_000;
  const runs = fuzz(AT_MOST_RUNS, () => performance.now() > until);
  console.log(`${runs} runs`);
  expect(runs).toBeGreaterThan(0);
});
