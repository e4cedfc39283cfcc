/**
 * Symptom: now and then `vm.reset` answered that the guest was ready, which it had just ceased to be.
 * Cause: QEMU tells the events of a command before its reply, but where several events came in one piece with the reply, the supervisor
 * read them one by one in later turns, and the command's caller went on before the last of them.
 */
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { runCommand } from '../../agent/qmp/commands.ts';
import { eventOf, startFakeQmp } from '../support/fake-qmp.ts';

test('a handler of events has had all that came before a reply when the reply is handed on', async () => {
  await using fake = await startFakeQmp(async (peer) => {
    await peer.negotiate();
    for (;;) {
      const command = await peer.receive();
      peer.send(eventOf('BALLOON_CHANGE'), eventOf('STOP'), eventOf('RESET'), { return: {}, id: command.id });
    }
  });
  await using client = await QmpClient.connect({ path: fake.path });
  const log: string[] = [];
  client.onEvent(['BALLOON_CHANGE', 'RESET'], ({ name }) => log.push(name));
  for (let n = 0; n < 2; n++) {
    await runCommand(client, 'system_reset');
    log.push('answered');
  }
  expect(log).toEqual(['BALLOON_CHANGE', 'RESET', 'answered', 'BALLOON_CHANGE', 'RESET', 'answered']);
});

test('a handler gets what came during the set-up too, and one that throws ends the session with its error', async () => {
  await using fake = await startFakeQmp(async (peer) => {
    await peer.negotiate();
    peer.event('STOP');
  });
  await using client = await QmpClient.connect({ path: fake.path });
  client.onEvent(['STOP'], () => {
    throw new Error('handler broke');
  });
  expect(await client.closed).toMatchObject({ message: expect.stringContaining('handler broke') });
});
