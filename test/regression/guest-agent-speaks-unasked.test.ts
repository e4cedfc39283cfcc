/**
 * Symptom: a guest could take hundreds of MiB of its agent's memory, by answers to nothing.
 * Cause: what a guest agent says unasked was counted in parts, of which each may be half a MiB, and kept until the connection was idle.
 */
import { expect, test } from 'vitest';
import { GuestAgentClient } from '../../agent/vm/guest-agent/client.ts';
import { fakeGuestAgent } from '../support/fake-guest-agent.ts';

const soon = { signal: new AbortController().signal, remainingMs: 20_000 };

test('a guest agent that says much unasked is hung up on, and spoken with anew', async () => {
  const flooded = Promise.withResolvers<void>();
  const { options, connections } = fakeGuestAgent(async (agent, connection) => {
    await agent.sync();
    await agent.receive();
    agent.say({ return: {} });
    if (connection > 1) return;
    for (let said = 0; said < 40; said++) {
      agent.say({ return: 'x'.repeat(80_000) });
      await new Promise(setImmediate);
    }
    flooded.resolve();
  });
  const client = new GuestAgentClient(options);
  await client.run('guest-ping', {}, soon);
  await flooded.promise;
  await client.run('guest-ping', {}, soon);
  expect(connections()).toBe(2);
});
