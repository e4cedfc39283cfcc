/**
 * Symptom: a command to a QEMU that hangs ended now and then as CANCELLED, which is not retryable, where its deadline had passed.
 * Cause: the caller's deadline comes as a timer here and as an aborted signal; when the signal was first, its reason was passed over.
 */
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { FairleadError } from '../../shared/errors.ts';
import { startFakeQmp } from '../support/fake-qmp.ts';

test('a command whose signal says that the time is over ends with TIMEOUT', async () => {
  await using fake = await startFakeQmp(async (peer) => void (await peer.negotiate()));
  await using client = await QmpClient.connect({ path: fake.path });
  const caller = new AbortController();
  const command = client.execute('stop', undefined, { signal: caller.signal });
  caller.abort(new FairleadError('TIMEOUT', 'pausing VM web did not end within 1000 ms'));
  await expect(command).rejects.toMatchObject({ code: 'TIMEOUT', details: { command: 'stop' } });
});

test('a command whose caller gave up ends with CANCELLED', async () => {
  await using fake = await startFakeQmp(async (peer) => void (await peer.negotiate()));
  await using client = await QmpClient.connect({ path: fake.path });
  const caller = new AbortController();
  const command = client.execute('stop', undefined, { signal: caller.signal });
  caller.abort();
  await expect(command).rejects.toMatchObject({ code: 'CANCELLED' });
});
