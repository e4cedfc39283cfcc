/** More hands at a listening socket, on a real one. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { addAcceptors } from '../../hub/http/acceptors.ts';

const AT_ONCE = 40;

let server: Server;
let sockets: Socket[];
beforeEach(async () => {
  sockets = [];
  server = createServer((_request, response) => response.end('here'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  server.closeAllConnections();
});

const port = () => (server.address() as AddressInfo).port;
function dial(): Socket {
  const socket = connect(port(), '127.0.0.1').on('error', () => {});
  sockets.push(socket);
  return socket;
}

/** How many are taken in one turn of the loop at most, when many are there at once. */
async function mostInOneTurn(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let [taken, inThisTurn, most] = [0, 0, 0];
  server.on('connection', () => {
    taken += 1;
    inThisTurn += 1;
    most = Math.max(most, inThisTurn);
    if (inThisTurn === 1) setImmediate(() => (inThisTurn = 0));
    if (taken === AT_ONCE) resolve();
  });
  for (let count = 0; count < AT_ONCE; count++) dial();
  await promise;
  return most;
}

describe('connections that come at once', () => {
  test('are taken one in a turn by Node alone', async () => {
    expect(await mostInOneTurn()).toBe(1);
    server.close();
  });

  test('are taken by several hands, and each is served', async () => {
    using hands = addAcceptors(server);
    expect(await mostInOneTurn()).toBeGreaterThan(4);
    const answer = await fetch(`http://127.0.0.1:${port()}`);
    expect(await answer.text()).toBe('here');
    hands[Symbol.dispose]();
    server.close();
  });

  test('are refused once the hands and the server are closed', async () => {
    const hands = addAcceptors(server);
    const address = port();
    hands[Symbol.dispose]();
    server.close();
    await once(server, 'close');
    const late = connect(address, '127.0.0.1');
    const [error] = await once(late, 'error');
    expect(error.code).toBe('ECONNREFUSED');
  });
});
