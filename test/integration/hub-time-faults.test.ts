/** Clocks that are set by an hour, and processes that stand still: what was acknowledged stays, nothing runs twice, and it goes on. */
import { expect, it } from 'vitest';
import { Journal } from '../../agent/journal/journal.ts';
import { newCommandId } from '../../shared/command-id.ts';
import { accepted, done, HOUR_MS, START_MS } from '../support/journal-commands.ts';
import { journalObserver, MemoryFiles } from '../support/journal-files.ts';
import { RolloutFleet, reaches } from '../support/rollout-fleet.ts';
import { stopWriterFor } from '../support/stopped-writer.ts';
import { silent } from '../support/vm.ts';

const ONCE = 'vm.stop,vm.redefine,vm.start';
const LEASE_TTL_MS = 150;
/** `npm run soak` has a minute of it (test/soak/stopped.test.ts). */
const STOPPED_MS = 2_000;

it.each([
  ['forward', [HOUR_MS]],
  ['back', [-HOUR_MS]],
  ['to and fro', [HOUR_MS, -HOUR_MS, 0]],
])('a rollout goes on when the clock of its hub is set %s by an hour: every host once', async (_, settings) => {
  await using fleet = await RolloutFleet.create(12, 2);
  fleet.leaseTtlMs = LEASE_TTL_MS;
  for (const host of fleet.hosts.values()) host.tookMs = 60;
  const { rollouts } = await fleet.hub();
  await rollouts.start('r1', fleet.spec({ maxInFlight: 2 }), { actor: 'alice' });
  const begun = (): number => [...fleet.hosts.values()].filter(({ journal }) => journal.size > 0).length;
  for (const [index, setMs] of settings.entries()) {
    await expect.poll(begun, { timeout: 30_000 }).toBeGreaterThan(index * 2);
    fleet.clockSetMs = setMs;
  }
  await expect.poll(async () => (await rollouts.get('r1')).status, { timeout: 30_000 }).toBe('completed');
  expect(new Set([...fleet.hosts.values()].map((host) => host.methods.join()))).toEqual(new Set([ONCE]));
});

it('a rollout goes on when its hub stood still for longer than its lease: every host once', async () => {
  await using fleet = await RolloutFleet.create(6, 2);
  fleet.leaseTtlMs = LEASE_TTL_MS;
  for (const host of fleet.hosts.values()) host.tookMs = 30;
  const { rollouts } = await fleet.hub();
  await rollouts.start('r1', fleet.spec({ maxInFlight: 2 }), { actor: 'alice' });
  await expect.poll(() => [...fleet.hosts.values()].some(({ journal }) => journal.size > 0), { interval: 5 }).toBe(true);
  // As SIGSTOP does it: no timer fires, and then all at once.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LEASE_TTL_MS * 4);
  expect(await reaches(rollouts, 'r1', ['completed', 'paused', 'aborted'])).toBe('completed');
  expect(new Set([...fleet.hosts.values()].map((host) => host.methods.join()))).toEqual(new Set([ONCE]));
});

it.each([
  ['forward', HOUR_MS],
  ['back', -HOUR_MS],
])('the journal of a host whose clock is set %s by an hour knows what it has accepted and ended', async (_, setMs) => {
  const files = new MemoryFiles();
  let nowMs = START_MS;
  const open = (): Journal => new Journal({ files, observer: journalObserver().observer, logger: silent, now: () => nowMs });
  const at = () => new Date(nowMs).toISOString();
  const journal = open();
  const [ended, underWay, never] = [newCommandId(nowMs), newCommandId(nowMs), newCommandId(nowMs)];
  await journal.accept(accepted(ended, { acceptedAt: at() }));
  await journal.finish(done(ended, { acceptedAt: at(), endedAt: at() }));
  await journal.accept(accepted(underWay, { acceptedAt: at() }));
  nowMs += setMs;
  for (const seen of [journal, open()]) {
    expect((await seen.find(ended))?.state).toBe('done');
    expect((await seen.unfinished()).map(({ id }) => id)).toEqual([underWay]);
    // What was never here may run, and is not taken for something that was forgotten.
    expect(await seen.absenceOf(never)).toBeUndefined();
    // And a day as this clock has it, with an hour to spare, is kept.
    nowMs += 24 * HOUR_MS - Math.abs(setMs);
    expect((await seen.find(ended))?.state).toBe('done');
    nowMs -= 24 * HOUR_MS - Math.abs(setMs);
  }
});

it('a process that writes the store and is stopped by SIGSTOP goes on, and has each acknowledged write once', async () => {
  const { acknowledged, failed, notOnce } = await stopWriterFor(STOPPED_MS);
  expect([failed, notOnce]).toEqual([0, []]);
  expect(acknowledged).toBeGreaterThan(300);
});
