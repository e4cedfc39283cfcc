/**
 * Symptom: `guest.shutdown` failed with WRONG_STATE ("VM web is not running any more") of a guest that was quick to shut down.
 * Cause: its agent answers only when it refuses, and the end of QEMU was told before that of the connection, on which no refusal had come.
 */
import { expect, test } from 'vitest';
import { GuestAgentClient } from '../../agent/vm/guest-agent/client.ts';
import { FairleadError } from '../../shared/errors.ts';
import { fakeGuestAgent } from '../support/fake-guest-agent.ts';

const never = new AbortController().signal;
const gone = new FairleadError('WRONG_STATE', 'VM web is not running any more');

test('a guest that is gone has taken the command to shut down', async () => {
  const { options, end } = fakeGuestAgent(async (agent) => {
    await agent.sync();
    await agent.receive();
    end(gone);
  });
  const client = new GuestAgentClient(options);
  const told = client.tell('guest-shutdown', { mode: 'powerdown' }, { signal: never, remainingMs: 20_000 }, 20_000);
  await expect(told).resolves.toBeUndefined();
});

test('a guest that is gone before it was told has not taken it, and nor has one whose caller gave up', async () => {
  const early = fakeGuestAgent(async () => early.end(gone));
  const shutDown = (options: typeof early.options, signal: AbortSignal) =>
    new GuestAgentClient(options).tell('guest-shutdown', { mode: 'powerdown' }, { signal, remainingMs: 20_000 }, 20_000);
  await expect(shutDown(early.options, never)).rejects.toBe(gone);

  const caller = new AbortController();
  const late = fakeGuestAgent(async (agent) => {
    await agent.sync();
    await agent.receive();
    caller.abort(new FairleadError('CANCELLED', 'the caller gave up'));
  });
  await expect(shutDown(late.options, caller.signal)).rejects.toMatchObject({ code: 'CANCELLED' });
});
