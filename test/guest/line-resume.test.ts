/** A guest's streams while the lines between operator, hub and agent are cut, and while the hub is killed. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { echoWhileCut, type SplitFleet, startSplitFleet } from '../support/split-fleet.ts';
import { whyNoGuest } from '../support/up.ts';

const MIB = 1024 ** 2;
const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('streams into a guest', () => {
  let fleet: SplitFleet;
  beforeAll(async () => {
    fleet = await startSplitFleet({ guest: true });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  it('bring every byte once and in order through ten cuts', async () => {
    expect(await echoWhileCut(fleet, { cuts: 10, streams: 4, bytesBetweenCuts: MIB })).toBeGreaterThan(0);
  });

  it('go on when the hub is killed and started again', async () => {
    const transfers = Promise.all(Array.from({ length: 4 }, () => fleet.echo(4 * MIB)));
    await Promise.race([fleet.near.cutAfter(3 * MIB), transfers]);
    await fleet.hub.end('SIGKILL');
    await fleet.hub.start();
    expect(await transfers).toHaveLength(4);
  });
});
