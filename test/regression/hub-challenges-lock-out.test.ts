/**
 * Symptom: a stranger who asked a hub for a few challenges kept its hosts from connecting for half a minute, over and over.
 * Cause: only two challenges for each host that may enrol could be outstanding, far fewer than may be asked for in their life.
 */
import { expect, test } from 'vitest';
import { askChallenge } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

test('a stranger cannot use up the challenges within what the hub admits', async () => {
  await using hub = await startTestHub({ maxHosts: 2, addressHandshakeBurst: 50 });
  for (let asked = 0; asked < 40; asked++) expect(await askChallenge(hub.url)).toHaveProperty('nonce');
});
