/** Hosts that begin in a turn of the event loop each, on turns that are played. */
import { expect, it } from 'vitest';
import { Turns } from '../../hub/auth/turns.ts';
import { FakeClock } from '../support/fake-clock.ts';

function played(perTurn: number) {
  const clock = new FakeClock();
  const ends: Array<() => void> = [];
  const turns = new Turns(perTurn, clock, (run) => ends.push(run));
  const begun: number[] = [];
  const come = (host: number) => void turns.next().then(() => begun.push(host));
  /** Ends this turn, and lets what follows from it happen. */
  const end = async (): Promise<void> => {
    for (const run of ends.splice(0)) run();
    await new Promise(setImmediate);
  };
  return { clock, turns, begun, come, end };
}

it('so many begin in each turn, in the order in which they came', async () => {
  const { begun, come, end } = played(2);
  for (const host of [1, 2, 3]) come(host);
  expect(begun).toEqual([]);
  await end();
  expect(begun).toEqual([1, 2]);
  for (const host of [4, 5]) come(host);
  await end();
  expect(begun).toEqual([1, 2, 3, 4]);
  await end();
  await end();
  expect(begun).toEqual([1, 2, 3, 4, 5]);
  come(6);
  await end();
  expect(begun).toEqual([1, 2, 3, 4, 5, 6]);
});

it('how long the next one has waited counts as being behind', async () => {
  const { clock, turns, come, end } = played(1);
  expect(turns.waitMs).toBe(0);
  come(1);
  clock.advance(100);
  come(2);
  clock.advance(50);
  expect(turns.waitMs).toBe(150);
  await end();
  expect(turns.waitMs).toBe(50);
  await end();
  expect(turns.waitMs).toBe(0);
});
