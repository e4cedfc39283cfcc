/**
 * Symptom: of a hub that took 10,000 hosts back, a sixth of the processor's time went into setting timers.
 * Cause: heartbeats wait for random lengths, Node keeps a list for each length in milliseconds, and a table of thousands of them is copied over and
 * over as lists come and go.
 */
import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { Heartbeat } from '../../shared/line/heartbeat.ts';

const HOSTS = 2_000;

afterEach(() => {
  vi.restoreAllMocks();
});

test('heartbeats of a fleet wait for few different lengths, none too short', () => {
  const given: number[] = [];
  vi.spyOn(globalThis, 'setTimeout').mockImplementation((_run, delayMs = 0) => {
    given.push(delayMs);
    // SAFETY: of a timer that never fires, nothing is used.
    return undefined as unknown as NodeJS.Timeout;
  });
  const asked: number[] = [];
  const clock = {
    now: () => 0,
    setTimeout: (run: () => void, delayMs: number) => {
      asked.push(delayMs);
      return systemClock.setTimeout(run, delayMs);
    },
  };
  const options = { clock, intervalMs: 10_000, deadAfterMs: 25_000, onPing: () => {}, onDead: () => {} };
  const beating = Array.from({ length: HOSTS }, () => new Heartbeat(options));
  expect(given).toHaveLength(2 * beating.length);
  expect(new Set(asked).size).toBeGreaterThan(1000);
  expect(new Set(given).size).toBeLessThan(100);
  for (const [index, delayMs] of given.entries()) {
    expect(delayMs - (asked[index] ?? 0)).toBeGreaterThanOrEqual(0);
    expect(delayMs - (asked[index] ?? 0)).toBeLessThan(64);
  }
});

test('a short wait is as long as it was asked for', () => {
  const set = vi.spyOn(globalThis, 'setTimeout');
  systemClock.setTimeout(() => {}, 999).cancel();
  expect(set).toHaveBeenLastCalledWith(expect.any(Function), 999);
});
