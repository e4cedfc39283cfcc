/**
 * The scheduler beside a model that only counts: whatever streams get to send, lose the right to send, and in whatever pieces they send it.
 * Nobody is chosen who may not send, nobody who may send is forgotten, and nobody is ever ahead of a stream that always has something by more
 * than two quanta and a frame: one for a turn that the other has not had yet, one for the round in which it came, and the frame that begins
 * with the last byte of a quantum.
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

/** How a stream tries to get more than its share: what it has each time, and how many turns after it was done, or after it was forgotten. */
const greedyKind = fc.record({
  piece: bytes,
  untilForgotten: fc.boolean(),
  pauseTurns: fc.oneof(fc.constant(0), fc.nat({ max: 30 })),
});

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
      const wrongChoices: string[] = [];
      let promised = 0;
      const send = (most: number): void => {
        const mayAtFirst = sources.filter(({ sendable }) => sendable);
        const chosen = sendNext(scheduler, most);
        if (chosen === undefined && mayAtFirst.length > 0) wrongChoices.push('nobody, though somebody may');
        if (chosen !== undefined && !mayAtFirst.includes(chosen)) wrongChoices.push('somebody who may not');
      };
      const take = (taken: Step): void => {
        if (taken.kind === 'send') return send(taken.maxBytes);
        const source = sources[taken.index] ?? new Source();
        if (taken.kind === 'drop') {
          // A reset: what waited is gone, and the scheduler is not told.
          promised -= source.queuedBytes;
          source.queuedBytes = 0;
        } else {
          if (taken.kind === 'queue') promised += taken.bytes;
          source[taken.kind === 'queue' ? 'queuedBytes' : 'creditBytes'] += taken.bytes;
          scheduler.activate(source);
        }
      };
      for (const taken of steps) take(taken);
      expect(wrongChoices).toEqual([]);
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

test('shares among streams that always have something and those that have a little again and again', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.array(greedyKind, { maxLength: 3 }),
      fc.array(maxBytes, { minLength: 50, maxLength: 600 }),
      quantumBytes,
      (count, kinds, turns, quantum) => {
        const scheduler = new Scheduler<Source>();
        scheduler.quantumBytes = quantum;
        const give = (source: Source, given: number): void => {
          source.queuedBytes += given;
          source.creditBytes += given;
          scheduler.activate(source);
        };
        const bulk = Array.from({ length: count }, () => new Source());
        for (const source of bulk) give(source, 1e12);
        const greedy = kinds.map((kind) => ({ source: new Source(), idleTurns: 0, ...kind }));
        const mayBe = quantum * 2 + FRAME_BYTES;
        for (const most of turns) {
          for (const each of greedy) {
            const isIdle = each.source.queuedBytes === 0 && !(each.untilForgotten && each.source.schedule.listed);
            if (!isIdle || each.idleTurns++ < each.pauseTurns) continue;
            each.idleTurns = 0;
            give(each.source, each.piece);
          }
          sendNext(scheduler, most);
          const shares = bulk.map(({ sentBytes }) => sentBytes);
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(mayBe);
          for (const { source } of greedy) expect(source.sentBytes).toBeLessThanOrEqual(Math.max(...shares) + mayBe);
        }
      },
    ),
    { numRuns: 3000, endOnFailure: true },
  );
});
