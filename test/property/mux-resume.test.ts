/**
 * Resumption against a model: operator, hub and agent with streams through, lines cut at any byte, ends that are back before the hub has
 * noticed, hubs that are replaced by new ones. Every byte arrives once and in order, and what ended in order was whole.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ResumeAction, runResumption } from '../support/resume-model.ts';

const bytes = fc.oneof(
  fc.integer({ min: 1, max: 200 }),
  fc.integer({ min: 1, max: 40_000 }),
  fc.integer({ min: 1, max: 400_000 }),
);
const leg = fc.constantFrom('operator' as const, 'agent' as const);

const action: fc.Arbitrary<ResumeAction> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('open' as const) }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('move' as const), leg, toHub: bytes, fromHub: bytes }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('write' as const), which: fc.nat(50), bytes }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('read' as const), which: fc.nat(50), chunks: fc.integer({ min: 1, max: 8 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('end' as const), which: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), which: fc.nat(50) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('cut' as const), leg }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('switch' as const), leg }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('replace-hub' as const) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('dial' as const), leg }) },
);

test('every byte arrives once and in order, whatever is cut, and nothing is left', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 150 }), async (actions) => {
      const left = await runResumption(actions);
      expect(left).toEqual({ streams: 0, bytesPromised: 0, bytesWaiting: 0, relaysHeld: 0, timers: 0 });
    }),
    { numRuns: 300 },
  );
});
