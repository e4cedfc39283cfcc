/**
 * Each call that was posted left the timer of its deadline behind: for half a minute it kept its memory, and kept a hub that was asked to stop
 * from stopping.
 */
import { expect, it } from 'vitest';
import { startTestHub } from '../support/test-hub.ts';

const CALLS = 40;

const timers = (): number => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

it('calls that were posted leave no timers behind', async () => {
  await using hub = await startTestHub();
  await hub.post('hub.info');
  const before = timers();
  for (let call = 0; call < CALLS; call++) expect((await hub.post('hub.info')).status).toBe(200);
  // Connections have some of their own.
  expect(timers() - before).toBeLessThan(CALLS / 2);
});
