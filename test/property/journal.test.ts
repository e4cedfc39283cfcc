/** The journal against disks that crash, tear and rot: what was acknowledged is there, or is told to be lost. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeFrame, scanFrames } from '../../agent/journal/frame.ts';
import { Journal } from '../../agent/journal/journal.ts';
import { newCommandId } from '../../shared/command-id.ts';
import { toFairleadError } from '../../shared/errors.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { type Fault, journalObserver, MemoryFiles } from '../support/journal-files.ts';
import { silent } from '../support/vm.ts';

const START_MS = Date.parse('2026-01-01T00:00:00Z');

function operation(id: string, state: 'accepted' | 'done'): Operation {
  const at = new Date(START_MS).toISOString();
  const accepted = { id, method: 'vm.stop', host: 'h', vm: 'web', acceptedAt: at, paramsDigest: '0'.repeat(64), attempts: 1 };
  return state === 'accepted' ? { ...accepted, state } : { ...accepted, state, endedAt: at, result: { id } };
}

function open(files: MemoryFiles, segmentBytes = 1_500): Journal {
  return new Journal({
    files,
    observer: journalObserver().observer,
    logger: silent,
    limits: { segmentBytes },
    now: () => START_MS,
  });
}

const payload = fc.dictionary(fc.string(), fc.jsonValue()).map((value) => Buffer.from(JSON.stringify(value)));

describe('records in a file', () => {
  it('are read back as they were written, whatever they hold', () => {
    fc.assert(
      fc.property(fc.array(payload, { maxLength: 8 }), (payloads) => {
        const { frames, damages } = scanFrames(Buffer.concat(payloads.map(encodeFrame)));
        expect(frames.map((frame) => frame.payload.toString())).toEqual(payloads.map(String));
        expect(damages).toEqual([]);
      }),
    );
  });

  it('cut off at any byte are those that are whole, and the rest is a torn end', () => {
    const payloads = ['{"a":1}', '{"bb":[1,2,3]}', '{"c":"x"}'].map((text) => Buffer.from(text));
    const frames = payloads.map(encodeFrame);
    const file = Buffer.concat(frames);
    for (let bytes = 0; bytes <= file.length; bytes++) {
      let end = 0;
      const whole = frames.filter((frame) => (end += frame.length) <= bytes).length;
      const scan = scanFrames(file.subarray(0, bytes));
      expect(scan.frames.map((frame) => frame.payload.toString())).toEqual(payloads.slice(0, whole).map(String));
      const rest = bytes - frames.slice(0, whole).reduce((sum, frame) => sum + frame.length, 0);
      expect(scan.damages.map(({ kind, bytes }) => [kind, bytes])).toEqual(rest === 0 ? [] : [['torn', rest]]);
    }
  });

  it('with any bit flipped are all the others, and never a wrong one', () => {
    const payloads = ['{"a":1}', '{"bb":[1,2,3]}', '{"c":"x"}'];
    const frames = payloads.map((text) => encodeFrame(Buffer.from(text)));
    const file = Buffer.concat(frames);
    const ends = frames.map((_, index) => frames.slice(0, index + 1).reduce((sum, frame) => sum + frame.length, 0));
    for (let bit = 0; bit < file.length * 8; bit++) {
      const flipped = Buffer.from(file);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const hit = ends.findIndex((end) => bit >> 3 < end);
      const scan = scanFrames(flipped);
      expect(scan.frames.map((frame) => frame.payload.toString())).toEqual(payloads.filter((_, index) => index !== hit));
      expect(scan.damages).toHaveLength(1);
    }
  });

  it('are found behind rubbish of any kind', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), payload, (rubbish, last) => {
        const { frames } = scanFrames(Buffer.concat([rubbish, encodeFrame(last)]));
        expect(frames.at(-1)?.payload.toString()).toBe(last.toString());
      }),
    );
  });
});

type Step = { readonly id: number; readonly fault: Fault | undefined };

const FAULTS: readonly Fault[] = [
  { on: 'write', code: 'ENOSPC', after: 20 },
  { on: 'write', code: 'EIO' },
  { on: 'datasync', code: 'EIO' },
  { on: 'create', code: 'ENOSPC' },
  { on: 'syncNames', code: 'EIO' },
  { on: 'open', code: 'EIO' },
  { on: 'close', code: 'EIO' },
  { on: 'remove', code: 'EIO' },
];

const step: fc.Arbitrary<Step> = fc.record({
  id: fc.nat(12),
  fault: fc.option(fc.constantFrom(...FAULTS), { nil: undefined, freq: 4 }),
});

describe('a journal', () => {
  it('has after any crash what it acknowledged, and nothing that was never written', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        async (steps, shares) => {
          const files = new MemoryFiles();
          const journal = open(files);
          /** What the caller was told: the least that must be there. */
          const acknowledged = new Map<string, 'accepted' | 'done'>();
          const refusals: string[] = [];
          const attempted = new Map<string, Set<string>>();
          for (const { id: number, fault } of steps) {
            const id = `c${number}`;
            const isAccepted = acknowledged.has(id);
            const state = isAccepted ? 'done' : 'accepted';
            attempted.set(id, (attempted.get(id) ?? new Set<string>()).add(state));
            files.faults = fault === undefined ? [] : [fault];
            try {
              await (isAccepted ? journal.finish(operation(id, state)) : journal.accept(operation(id, state)));
              acknowledged.set(id, state);
            } catch (error) {
              refusals.push(toFairleadError(error).code);
            }
          }
          await journal.close();
          expect(refusals.filter((code) => code !== 'JOURNAL_FAILED')).toEqual([]);
          files.faults = [];
          const share = (): number => shares.next().value ?? 0;
          const later = open(files.crash(share));
          for (const [id, state] of acknowledged) {
            // One that was not acknowledged as done may have become so on the disk.
            expect([state, 'done']).toContain((await later.find(id))?.state);
          }
          for (const { id, state } of (await later.list({ limit: 500 })).operations) expect(attempted.get(id)).toContain(state);
          expect(await later.absenceOf(newCommandId(START_MS))).toBeUndefined();
          // And it goes on.
          await later.accept(operation('next', 'accepted'));
          expect(await later.find('next')).toBeDefined();
        },
      ),
      { numRuns: 200 },
    );
  });

  it('that has rotted anywhere tells of the loss, and gives back every record that is sound', async () => {
    const files = new MemoryFiles();
    const journal = open(files, 1_000);
    const ids = Array.from({ length: 12 }, (_, n) => `c${n}`);
    for (const id of ids) await journal.accept(operation(id, 'accepted'));
    const image = files.image();
    const names = Object.keys(image).sort();
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), fc.nat(), fc.integer({ min: 1, max: 255 }), async (name, at, change) => {
        const rotten = { ...image, [name]: Buffer.from(image[name] ?? '') };
        const bytes = rotten[name] ?? Buffer.alloc(0);
        bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ change;
        const later = open(MemoryFiles.of(rotten));
        const found = (await later.list({ limit: 500 })).operations.map(({ id }) => id);
        const lost = ids.filter((id) => !found.includes(id));
        expect(lost.length).toBeLessThanOrEqual(1);
        // The end of the last file is the one place where rot looks like a write that was cut short.
        const isAtTheEnd = name === names.at(-1) && lost[0] === ids.at(-1);
        const isTold = (await later.absenceOf(newCommandId(START_MS))) === 'damage';
        expect(isTold || isAtTheEnd || lost.length === 0).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});
