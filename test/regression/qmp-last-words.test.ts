/**
 * Symptom: the reason of a VM's end was lost when a command was given in the same moment.
 * Cause: QEMU said SHUTDOWN and closed; the write met EPIPE, upon which Node destroys the socket with all that was still to be read.
 */
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { type FakePeer, startFakeQmp } from '../support/fake-qmp.ts';

test('what QEMU said before it closed is heard, also when a command is written afterwards', async () => {
  const ready = Promise.withResolvers<FakePeer>();
  await using fake = await startFakeQmp(async (peer) => {
    await peer.negotiate();
    ready.resolve(peer);
  });
  await using client = await QmpClient.connect({ path: fake.path });
  using events = client.listen();
  const peer = await ready.promise;

  peer.event('SHUTDOWN', { guest: true, reason: 'guest-shutdown' });
  peer.destroy();
  const command = client.execute('query-status');

  await expect(command).rejects.toMatchObject({ code: 'INTERRUPTED' });
  expect(await Array.fromAsync(events)).toMatchObject([{ name: 'SHUTDOWN', data: { reason: 'guest-shutdown' } }]);
});
