/**
 * Symptom: a call with the longest deadline that the contract allows (2^31 − 1 ms, 24 days) ended with TIMEOUT after a millisecond.
 * Cause: waits of a second and more are rounded up to 64 ms, and Node fires at once a timer that does not fit into 31 bits.
 */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { MAX_TIMEOUT_MS } from '../../shared/jsonrpc/meta.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('the longest deadline is waited for', () => {
  const set = vi.spyOn(globalThis, 'setTimeout');
  const timer = systemClock.setTimeout(() => {}, MAX_TIMEOUT_MS);
  expect(set.mock.calls.map(([, delayMs]) => delayMs)).toEqual([MAX_TIMEOUT_MS]);
  timer.cancel();
});
