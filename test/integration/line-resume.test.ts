/**
 * Streams over real sockets that break: an operator, a hub in a process of its own, and an agent's link with an echo behind it. The same
 * with a real guest is test/guest/line-resume.test.ts, the long form test/soak/resume.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { echoWhileCut, startSplitFleet } from '../support/split-fleet.ts';

const MIB = 1024 ** 2;

describe('streams outlive the line', () => {
  it('when it is cut, on either leg, ten times in the middle of a transfer', async () => {
    await using fleet = await startSplitFleet();
    expect(await echoWhileCut(fleet, { cuts: 10, streams: 4, bytesBetweenCuts: 2 * MIB })).toBeGreaterThan(0);
    expect(fleet.near.cuts + fleet.far.cuts).toBe(10);
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)('when the hub gets %s and comes back', async (signal) => {
    await using fleet = await startSplitFleet();
    const transfers = Promise.all(Array.from({ length: 4 }, () => fleet.echo(8 * MIB)));
    await Promise.race([fleet.near.cutAfter(6 * MIB), transfers]);
    await fleet.hub.end(signal);
    await fleet.hub.start();
    expect(await transfers).toHaveLength(4);
  });
});
