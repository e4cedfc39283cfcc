/**
 * Symptom: a guest that sent to its ready port without end kept the agent reading.
 * Cause: what came after the connection was thrown away, however much it was.
 */
import { type Duplex, PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { Session } from '../../agent/vm/session.ts';
import { silent } from '../support/vm.ts';

test('a guest has said that it is ready when it has said a little', async () => {
  let dialled: (stream: Duplex) => void = () => {};
  const device: VsockDevice = {
    cid: 3,
    halfClose: true,
    backend: { kind: 'vhost-vsock' },
    vhostFd: undefined,
    state: { kind: 'vhost-vsock', cid: 3 },
    spawned() {},
    guestChanged() {},
    settle: async () => {},
    connect: () => Promise.reject(new Error('nobody dials here')),
    listen: async (_port, onConnection) => {
      dialled = onConnection;
      return { async [Symbol.asyncDispose]() {} };
    },
    async [Symbol.asyncDispose]() {},
  };
  let readies = 0;
  const session = new Session({
    vm: 'a',
    generation: 1,
    process: { identity: { pid: 0, startTime: '' }, exited: new Promise(() => {}), hasExited: () => false, signal() {} },
    device,
    qmpSocket: '/nowhere',
    trail: '/nowhere',
    logger: silent,
    handlers: { onInput() {}, onNotice() {}, onReady: () => void (readies += 1), onEnd() {} },
  });
  await session.listenToGuest(1023);
  const stream = new PassThrough();
  dialled(stream);
  stream.write('{"ready":true}\n');
  await turn();
  expect(stream.destroyed).toBe(false);
  for (let chunk = 0; chunk < 100 && !stream.destroyed; chunk++) {
    stream.write(Buffer.alloc(1000));
    await turn();
  }

  expect(stream.destroyed).toBe(true);
  expect(readies).toBe(1);
  await session.close();
});
