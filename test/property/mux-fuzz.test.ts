/** The mux, an end's and a hub's, against peers that mean no good. An hour of it is test/soak/mux-fuzz.test.ts. */
import { describe, expect, test } from 'vitest';
import { ATTACKS, fuzz, provoke } from '../support/frame-fuzz.ts';

const RUNS = 20_000;

describe('a peer that attacks', () => {
  test.each(Object.entries(ATTACKS))('with %s is cut off', (_, messages) => {
    expect(provoke(messages())?.code).toMatch(/^(PROTOCOL_ERROR|FLOW_CONTROL|LIMIT_EXCEEDED)$/);
  });

  test('with random frames does no harm', { timeout: 240_000 }, () => {
    expect(fuzz(RUNS)).toBe(RUNS);
  });
});
