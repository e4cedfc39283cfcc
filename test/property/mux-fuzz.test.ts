/** The mux, an end's and a hub's, against peers that mean no good. An hour of it is test/soak/mux-fuzz.test.ts. */
import { describe, expect, test } from 'vitest';
import { ATTACKS, fuzz, provoke } from '../support/frame-fuzz.ts';

const FUZZ_MS = 60_000;
const AT_MOST_RUNS = 1e9;

describe('a peer that attacks', () => {
  test.each(Object.entries(ATTACKS))('with %s is cut off', (_, messages) => {
    expect(provoke(messages())?.code).toMatch(/^(PROTOCOL_ERROR|FLOW_CONTROL|LIMIT_EXCEEDED)$/);
  });

  test('with random frames for a minute does no harm', { timeout: 5 * FUZZ_MS }, () => {
    const until = performance.now() + FUZZ_MS;
    expect(fuzz(AT_MOST_RUNS, () => performance.now() > until)).toBeGreaterThan(0);
  });
});
