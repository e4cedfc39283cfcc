/** Many deadlines on one timer: each is told at its time, none that was struck off, and nothing is left. */
import { array, assert, boolean, integer, property, record } from 'fast-check';
import { expect, test } from 'vitest';
import { Deadlines } from '../../shared/deadlines.ts';
import { FakeClock } from '../support/fake-clock.ts';

test('deadlines are told in their order and at their time, each once', () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const told: [string, number][] = [];
  for (const [name, atMs] of [
    ['b', 200],
    ['a', 100],
    ['c', 300],
    ['b2', 200],
  ] as const) {
    deadlines.set(atMs, () => told.push([name, clock.now()]));
  }
  expect(clock.pendingTimers).toBe(1);
  clock.advance(1_000);
  expect(told).toEqual([
    ['a', 100],
    ['b', 200],
    ['b2', 200],
    ['c', 300],
  ]);
  expect(clock.pendingTimers).toBe(0);
});

test('one that is told may strike off others that are due, and set new ones', () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const told: string[] = [];
  deadlines.set(100, () => {
    told.push('first');
    deadlines.strike(second);
    deadlines.set(150, () => told.push('later'));
  });
  const second = deadlines.set(100, () => told.push('second'));
  clock.advance(1_000);
  expect(told).toEqual(['first', 'later']);
  expect(clock.pendingTimers).toBe(0);
});

test('after stop none is told, and no timer is left', () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  deadlines.set(100, () => expect.unreachable());
  deadlines.stop();
  expect(clock.pendingTimers).toBe(0);
  clock.advance(1_000);
});

test('whatever is set and struck off in between, each that is left is told at its time', () => {
  const step = record({
    inMs: integer({ min: 0, max: 50 }),
    waitMs: integer({ min: 0, max: 20 }),
    strikes: boolean(),
  });
  assert(
    property(array(step, { maxLength: 40 }), (steps) => {
      const clock = new FakeClock();
      const deadlines = new Deadlines(clock);
      const told: { atMs: number; nowMs: number }[] = [];
      const due: number[] = [];
      for (const { inMs, waitMs, strikes } of steps) {
        const atMs = clock.now() + inMs;
        const deadline = deadlines.set(atMs, () => told.push({ atMs, nowMs: clock.now() }));
        if (strikes) deadlines.strike(deadline);
        else due.push(atMs);
        expect(clock.pendingTimers).toBeLessThanOrEqual(1);
        clock.advance(waitMs);
      }
      clock.advance(1_000);
      expect(told.map(({ atMs }) => atMs)).toEqual(due.toSorted((a, b) => a - b));
      expect(told.every(({ atMs, nowMs }) => atMs === nowMs)).toBe(true);
      expect(clock.pendingTimers).toBe(0);
    }),
  );
});
