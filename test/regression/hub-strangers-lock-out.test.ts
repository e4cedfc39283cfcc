/**
 * Symptom: somebody without credentials who held as many connections open as the hub gives to strangers kept every host out.
 * Cause: the newest connection was cut when there were too many, and one that asks for `/livez` now and then lived for ever.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { addTestHost } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

const MAX = 4;

test('connections that have proved nothing for a while give way to new ones', async () => {
  await using hub = await startTestHub({ maxUnauthenticated: MAX });
  const { port } = new URL(hub.url);
  const idlers: Socket[] = [];
  try {
    for (let count = 0; count < MAX; count++) {
      const socket = connect(Number(port), '127.0.0.1');
      socket.on('error', () => {});
      idlers.push(socket);
      await once(socket, 'connect');
    }
    await expect.poll(() => addTestHost(hub, 'edge').then(closeIt, String), { timeout: 30_000, interval: 500 }).toBe('connected');
    expect(idlers.filter((socket) => !socket.closed).length, 'only as many as are needed are cut').toBeGreaterThan(0);
  } finally {
    for (const socket of idlers) socket.destroy();
  }
});

async function closeIt(agent: AsyncDisposable): Promise<string> {
  await agent[Symbol.asyncDispose]();
  return 'connected';
}
