/**
 * Symptom: on a host that was busy, a program in a guest that had not ended in time was told as one that could not be killed, and one whose
 * caller had gone ran on.
 * Cause: the guest had two seconds to start a shell that kills it, and to be rid of it, however long it might take for any other answer.
 */
import { expect, test } from 'vitest';
import { GuestAgentClient } from '../../agent/vm/guest-agent/client.ts';
import { type ExecRequest, execInGuest } from '../../agent/vm/guest-agent/exec.ts';
import { fakeGuestAgent } from '../support/fake-guest-agent.ts';

const REQUEST: ExecRequest = { path: 'true', args: [], input: '', encoding: 'utf8', timeoutMs: 1, maxOutputBytes: 0 };
/** For which the guest is at the killing. */
const BUSY_MS = 2_200;

test('a guest that takes its time to kill a program has the time of any answer for it', async () => {
  let killedAt = Number.POSITIVE_INFINITY;
  const { options } = fakeGuestAgent(async (agent) => {
    await agent.sync();
    await agent.serve({
      'guest-exec': ({ path }) => {
        if (path === '/bin/sh') killedAt = performance.now();
        return { pid: 1 };
      },
      'guest-exec-status': () => ({ exited: performance.now() - killedAt > BUSY_MS }),
    });
  });
  const limits = { vm: 'web', signal: new AbortController().signal, answerTimeoutMs: 60_000 };
  const { ended } = await execInGuest(new GuestAgentClient(options), REQUEST, limits);
  expect(ended).toEqual({ by: 'timeout', killed: true });
});
