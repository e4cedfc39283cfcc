/**
 * The scheduler beside a model that only counts: whatever streams get to send, lose the right to send, and in whatever pieces they send it.
 * Nobody is chosen who may not send, nobody who may send is forgotten, and among streams that always have something none is ever ahead of
 * another by more than a quantum and a frame for each of the two.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Schedulable, Scheduler, UNSCHEDULED } from '../../shared/mux/scheduler.ts';

const FRAME_BYTES = 16 * 1024;

class Source implements Schedulable<Source> {
  readonly schedule: Schedulable<Source>['schedule'] = { ...UNSCHEDULED };
  queuedBytes = 0;
  creditBytes = 0;
  sentBytes = 0;

  get sendable(): boolean {
    return this.queuedBytes > 0 && this.creditBytes > 0;
  }
}

type Step =
  | { readonly kind: 'queue' | 'credit'; readonly index: number; readonly bytes: number }
  | { readonly kind: 'drop'; readonly index: number }
  | { readonly kind: 'send'; readonly maxBytes: number };

const bytes = fc.oneof(fc.integer({ min: 1, max: 1024 }), fc.integer({ min: 1, max: 200_000 }));
const index = fc.nat({ max: 7 });
const maxBytes = fc.integer({ min: 1, max: FRAME_BYTES });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom('queue' as const, 'credit' as const), index, bytes }),
  fc.record({ kind: fc.constant('drop' as const), index }),
  { arbitrary: fc.record({ kind: fc.constant('send' as const), maxBytes }), weight: 4 },
);
const quantumBytes = fc.constantFrom(FRAME_BYTES, 4 * FRAME_BYTES, 1024);

/** Who is next sends at most `maxBytes`; undefined when nobody may. */
function sendNext(scheduler: Scheduler<Source>, most: number): Source | undefined {
  const source = scheduler.next();
  if (source === undefined) return undefined;
  const sent = Math.min(source.queuedBytes, source.creditBytes, most);
  source.queuedBytes -= sent;
  source.creditBytes -= sent;
  source.sentBytes += sent;
  scheduler.charge(source, sent);
  return source;
}

test('chooses only who may send, and forgets nobody', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 300 }), quantumBytes, (steps, quantum) => {
      const scheduler = new Scheduler<Source>();
      scheduler.quantumBytes = quantum;
      const sources = Array.from({ length: 8 }, () => new Source());
      let promised = 0;
      for (const taken of steps) {
        if (taken.kind === 'send') {
          const mayAnybody = sources.some(({ sendable }) => sendable);
          const before = sources.map(({ sendable }) => sendable);
          const chosen = sendNext(scheduler, taken.maxBytes);
          expect(chosen !== undefined).toBe(mayAnybody);
          if (chosen !== undefined) expect(before[sources.indexOf(chosen)]).toBe(true);
          continue;
        }
        const source = sources[taken.index];
        if (source === undefined) continue;
        if (taken.kind === 'drop') {
          // A reset: what waited is gone, and the scheduler is not told.
          promised -= source.queuedBytes;
          source.queuedBytes = 0;
        } else if (taken.kind === 'queue') {
          source.queuedBytes += taken.bytes;
          promised += taken.bytes;
          scheduler.activate(source);
        } else {
          source.creditBytes += taken.bytes;
          scheduler.activate(source);
        }
      }
      for (const source of sources) {
        source.creditBytes = Number.MAX_SAFE_INTEGER;
        scheduler.activate(source);
      }
      while (sendNext(scheduler, FRAME_BYTES) !== undefined);
      expect(scheduler.isEmpty).toBe(true);
      expect(sources.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBe(promised);
    }),
  );
});

test('shares among streams that always have something, whatever others do beside them', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 12 }),
      fc.array(fc.record({ most: maxBytes, other: fc.option(fc.record({ index, bytes })) }), { minLength: 50, maxLength: 600 }),
      quantumBytes,
      (count, turns, quantum) => {
        const scheduler = new Scheduler<Source>();
        scheduler.quantumBytes = quantum;
        const others = Array.from({ length: 8 }, () => new Source());
        const bulk = Array.from({ length: count }, () => new Source());
        const give = (source: Source, given: number): void => {
          source.queuedBytes += given;
          source.creditBytes += given;
          scheduler.activate(source);
        };
        for (const source of bulk) give(source, 1e12);
        for (const { most, other } of turns) {
          const besides = other === null ? undefined : others[other.index];
          if (besides !== undefined && other !== null) give(besides, other.bytes);
          sendNext(scheduler, most);
          const shares = bulk.map(({ sentBytes }) => sentBytes);
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(2 * (quantum + FRAME_BYTES));
          // And nobody who comes and goes gets more than one who is always there, but for what he may begin with.
          const greatest = Math.max(...others.map(({ sentBytes }) => sentBytes));
          expect(greatest).toBeLessThanOrEqual(Math.max(...shares) + 2 * (quantum + FRAME_BYTES));
        }
      },
    ),
  );
});
