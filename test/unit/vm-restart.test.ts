import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { ageOf } from '../../agent/process-age.ts';
import { identityOf } from '../../agent/process-identity.ts';
import { isCrashLoop, planRestart, type RestartPlan, waitOf } from '../../agent/vm/restart.ts';
import { RestartTimer } from '../../agent/vm/restart-timer.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';

const POLICY: VmSpec['restart'] = { policy: 'on-failure', delayMs: 1_000, maxDelayMs: 8_000, healthyMs: 60_000 };
const almostOne = (): number => 1 - Number.EPSILON;

type End = Partial<Parameters<typeof planRestart>[0]>;

function plan(end: End = {}) {
  const facts = { policy: POLICY, before: undefined, isClean: false, isByHand: false, ranMs: 10, now: 0, random: almostOne };
  return planRestart({ ...facts, ...end });
}

const delayOf = (before: RestartPlan | undefined, more: End = {}): number => Date.parse(plan({ before, ...more })?.dueAt ?? '');

describe('the restart policy', () => {
  test.each([
    ['never', false, false],
    ['never', true, false],
    ['on-failure', false, true],
    ['on-failure', true, false],
    ['always', false, true],
    ['always', true, true],
  ] as const)('%s after an end that is clean: %s starts again: %s', (policy, isClean, again) => {
    expect(plan({ policy: { ...POLICY, policy }, isClean }) !== undefined).toBe(again);
  });

  test('never undoes what an operator did', () => {
    expect(plan({ policy: { ...POLICY, policy: 'always' }, isByHand: true })).toBeUndefined();
  });

  test('waits twice as long each time, up to a limit, and anew after a run that held', () => {
    expect([0, 1, 2, 3, 4, 40].map((attempts) => delayOf({ attempts }))).toEqual([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    expect(plan({ before: { attempts: 7 } })?.attempts).toBe(8);
    expect(plan({ before: { attempts: 7 }, ranMs: 60_000 })).toMatchObject({ attempts: 1 });
    expect(delayOf({ attempts: 7 }, { ranMs: 60_000 })).toBe(1_000);
  });

  test('waits anything from nothing to that', () => {
    expect(delayOf({ attempts: 3 }, { random: () => 0 })).toBe(0);
    expect(delayOf({ attempts: 3 }, { random: () => 0.5 })).toBe(4_000);
  });

  test('calls it a loop from the fifth attempt on', () => {
    expect([1, 4, 5, 6].map((attempts) => isCrashLoop({ attempts }))).toEqual([false, false, true, true]);
  });

  test('knows how long there is to wait, and that what is overdue is due', () => {
    expect(waitOf(new Date(5_000).toISOString(), 1_000)).toBe(4_000);
    expect(waitOf(new Date(5_000).toISOString(), 9_000)).toBe(0);
  });
});

describe('the wait for a restart', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test.each([
    ['is as planned', 0, 10_000],
    ['is no longer than any that the policy plans when the clock was set back by an hour since', -3_600_000, 60_000],
    ['is over when the clock was set forward by an hour since', 3_600_000, 0],
  ])('%s', (_, setMs, waitMs) => {
    const nowMs = Date.parse('2026-01-01T00:00:00Z');
    vi.useFakeTimers({ now: nowMs + setMs });
    const due = vi.fn();
    const timer = new RestartTimer(due);
    timer.set({ attempts: 1, dueAt: new Date(nowMs + 10_000).toISOString() }, 60_000);
    vi.advanceTimersByTime(Math.max(0, waitMs - 1));
    expect(due).toHaveBeenCalledTimes(waitMs === 0 ? 1 : 0);
    vi.advanceTimersByTime(1);
    expect(due).toHaveBeenCalledTimes(1);
  });

  test('is not cut short by a clock that is set while it lasts', () => {
    vi.useFakeTimers({ now: 0 });
    const due = vi.fn();
    new RestartTimer(due).set({ attempts: 1, dueAt: new Date(10_000).toISOString() }, 60_000);
    vi.setSystemTime(3_600_000);
    vi.advanceTimersByTime(9_999);
    expect(due).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(due).toHaveBeenCalledTimes(1);
  });
});

describe('the age of a process', () => {
  test('is told beside that of this one, whatever the clock says', async () => {
    const child = spawn('sleep', ['60']);
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child, 'spawn');
    const [older, own, younger] = [process.ppid, process.pid, child.pid ?? 0].map((pid) => {
      const identity = identityOf(pid);
      return identity === undefined ? Number.NaN : ageOf(identity);
    });
    expect(older).toBeGreaterThan(own ?? Number.NaN);
    expect(own).toBeGreaterThan(younger ?? Number.NaN);
  });
});
