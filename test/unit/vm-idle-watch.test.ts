/** When a VM with an idle policy is put to sleep, on a clock of the test's. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { IdleWatch } from '../../agent/vm/snapshot/idle-watch.ts';

const AFTER_MS = 1_000;

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => void vi.useRealTimers());

function watchOf({ hasPolicy = true, isAwake = (): boolean => true } = {}) {
  const suspend = vi.fn(async () => {});
  const watch = new IdleWatch({ policy: () => (hasPolicy ? { suspendAfterMs: AFTER_MS } : undefined), isAwake, suspend });
  return { watch, suspend };
}

test('a VM is put to sleep when its last use has been over for the time of its policy', async () => {
  const { watch, suspend } = watchOf();
  const uses = [watch.use(), watch.use()];
  await vi.advanceTimersByTimeAsync(10 * AFTER_MS);
  uses[0]?.[Symbol.dispose]();
  uses[0]?.[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(10 * AFTER_MS);
  expect(suspend, 'the other use goes on, and the end of the first counts once').not.toHaveBeenCalled();
  uses[1]?.[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(AFTER_MS - 1);
  expect(watch.isIdle).toBe(false);
  expect(suspend).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(suspend).toHaveBeenCalledTimes(1);
});

test('a use that begins meanwhile begins the time anew', async () => {
  const { watch, suspend } = watchOf();
  watch.use()[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(AFTER_MS - 1);
  watch.use()[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(AFTER_MS - 1);
  expect(suspend).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(suspend).toHaveBeenCalledTimes(1);
});

test('a hold keeps it awake, a shorter one after it takes nothing away, and its end is told', async () => {
  const { watch, suspend } = watchOf();
  watch.use()[Symbol.dispose]();
  const until = watch.hold(5 * AFTER_MS);
  expect(until.getTime() - Date.now()).toBe(5 * AFTER_MS);
  expect(watch.hold(AFTER_MS)).toEqual(until);
  await vi.advanceTimersByTimeAsync(5 * AFTER_MS - 1);
  expect(suspend).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  expect(suspend).toHaveBeenCalledTimes(1);
});

test('one that cannot be put to sleep yet is looked at again, and one without a policy never', async () => {
  let isAwake = false;
  const { watch, suspend } = watchOf({ isAwake: () => isAwake });
  watch.use()[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(3 * AFTER_MS);
  expect(suspend).not.toHaveBeenCalled();
  isAwake = true;
  await vi.advanceTimersByTimeAsync(2 * AFTER_MS);
  expect(suspend.mock.calls.length).toBeGreaterThan(1);

  const without = watchOf({ hasPolicy: false });
  without.watch.use()[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(1_000 * AFTER_MS);
  expect(without.suspend).not.toHaveBeenCalled();
});

test('nothing happens once the agent leaves, nor for the end of a use after that', async () => {
  const { watch, suspend } = watchOf();
  const use = watch.use();
  watch[Symbol.dispose]();
  use[Symbol.dispose]();
  await vi.advanceTimersByTimeAsync(10 * AFTER_MS);
  expect(suspend).not.toHaveBeenCalled();
});
