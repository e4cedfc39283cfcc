/**
 * A guest that answers and closes before the host has ended its half: read(2) on AF_VSOCK is then ENOTCONN for a moment, which ended streams
 * with an error ("read ENOTCONN") though the guest had closed in order.
 *
 * A listening TCP socket stands in for AF_VSOCK, which must not be used here: it can be shut down for writing, becomes readable when
 * somebody connects, and answers every read(2) with ENOTCONN.
 */
import { once } from 'node:events';
import net from 'node:net';
import { expect, test } from 'vitest';
import type { NativeApi } from '../../native/index.ts';
import { socketFd } from '../../native/socket-fd.ts';
import { endForNotConnected, socketFrom } from '../../native/vsock-socket.ts';
import { describeNative } from '../support/native.ts';

async function notConnected(api: NativeApi): Promise<{ socket: net.Socket; becomeReadable: () => void } & AsyncDisposable> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const [fd, other] = api.socketpair();
  api.closeFd(other);
  api.swapInto(fd, socketFd(server));
  const { port } = fields(server.address());
  // Only the copy is to hear of connections.
  server.close();
  const socket = endForNotConnected(socketFrom(api, fd));
  const clients: net.Socket[] = [];
  return {
    socket,
    becomeReadable: () => void clients.push(net.connect(port, '127.0.0.1').on('error', () => {})),
    async [Symbol.asyncDispose]() {
      socket.destroy();
      for (const client of clients) client.destroy();
    },
  };
}

function fields(address: net.AddressInfo | string | null): net.AddressInfo {
  if (address === null || typeof address === 'string') throw new Error('a server on TCP has an address of TCP');
  return address;
}

describeNative('a socket that the kernel calls not connected', (api) => {
  test('has come to its end, where its own half was ended before', async () => {
    await using made = await notConnected(api);
    const { socket } = made;
    const closed = once(socket, 'close');
    socket.end();
    await once(socket, 'finish');
    made.becomeReadable();
    await once(socket.resume(), 'end');
    await closed;
    expect(socket.errored).toBeNull();
  });

  test('has failed, where its own half is open', async () => {
    await using made = await notConnected(api);
    const failed = once(made.socket, 'error');
    made.becomeReadable();
    expect(await failed).toMatchObject([{ code: 'ENOTCONN', syscall: 'read' }]);
    expect(made.socket.destroyed).toBe(true);
  });
});
