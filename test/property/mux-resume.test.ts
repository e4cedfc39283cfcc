/**
 * Resumption against a model: operator, hub and agent with streams through, lines cut at any byte, ends that are back before the hub has
 * noticed, hubs that are replaced by new ones. Every byte arrives once and in order, and what ended in order was whole.
 * The long form is in test/soak/resume.test.ts.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { runResumption } from '../support/resume-model.ts';
import { nothingLeft, resumeScripts, simLimits } from '../support/resume-scripts.ts';

test('every byte arrives once and in order, whatever is cut, and nothing is left', async () => {
  await fc.assert(
    fc.asyncProperty(resumeScripts({ minLength: 30, maxLength: 150 }), async (script) => {
      expect(await runResumption(script)).toEqual(nothingLeft);
    }),
    { numRuns: 500 },
  );
});

test('whatever frames and messages the sides take', async () => {
  await fc.assert(
    fc.asyncProperty(resumeScripts({ minLength: 30, maxLength: 100 }), simLimits, async (script, options) => {
      expect(await runResumption(script, options)).toEqual(nothingLeft);
    }),
    { numRuns: 150 },
  );
});
