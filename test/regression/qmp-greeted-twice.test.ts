/**
 * Symptom: about one start of a VM in some thousands failed by "a second greeting".
 * Cause: QEMU greets twice when a client comes in the moment in which its monitor moves to its own thread, and begins the negotiation
 * anew with each greeting; the client took the second for a broken protocol.
 */
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { type FakePeer, GREETING, startFakeQmp } from '../support/fake-qmp.ts';

const complete = ['CommandNotFound', 'Capabilities negotiation is already complete, command ignored'] as const;

/** How the second greeting may fall, and what QEMU says to each `qmp_capabilities`. */
const cases: readonly [string, (peer: FakePeer) => Promise<void>][] = [
  [
    'with the first',
    async (peer) => {
      peer.send(GREETING, GREETING);
      peer.reply(await peer.receive());
    },
  ],
  [
    'after the client has begun to negotiate, before QEMU reads it',
    async (peer) => {
      peer.send(GREETING);
      const first = await peer.receive();
      peer.send(GREETING);
      peer.reply(first);
      peer.fail(await peer.receive(), ...complete);
    },
  ],
  [
    'after QEMU has read the negotiation',
    async (peer) => {
      peer.send(GREETING);
      const first = await peer.receive();
      peer.send({ return: {}, id: first.id }, GREETING);
      peer.reply(await peer.receive());
    },
  ],
];

test.each(cases)('a second greeting that comes %s is negotiated', async (_when, greet) => {
  await using fake = await startFakeQmp(async (peer) => {
    await greet(peer);
    await peer.serve(({ execute }) => ({ echo: execute }));
  });
  await using client = await QmpClient.connect({ path: fake.path });
  expect(client).toMatchObject({ state: 'ready', oob: true });
  expect(await client.execute('query-status')).toEqual({ echo: 'query-status' });
});

test('one that comes when the session is ready ends it, since QEMU takes no commands from there on', async () => {
  await using fake = await startFakeQmp(async (peer) => {
    await peer.negotiate();
    await peer.receive();
    peer.send(GREETING);
  });
  await using client = await QmpClient.connect({ path: fake.path });
  await expect(client.execute('query-status')).rejects.toMatchObject({
    code: 'INTERRUPTED',
    cause: { code: 'PROTOCOL_ERROR', message: expect.stringContaining('one greeting too many') },
  });
});
