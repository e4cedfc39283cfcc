import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { expect, test } from 'vitest';
import { socketFd } from '../../native/socket-fd.ts';
import { thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';

/** Both ends of a TCP connection over the loopback. */
async function tcpPair(): Promise<AsyncDisposable & { near: net.Socket; far: net.Socket }> {
  const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const near = net.connect(address.port, '127.0.0.1');
  const [far]: net.Socket[] = await once(server, 'connection');
  if (far === undefined) throw new Error('no connection');
  return {
    near,
    far,
    async [Symbol.asyncDispose]() {
      near.destroy();
      far.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

describeNative('TCP_NOTSENT_LOWAT', (api) => {
  test('keeps what a stalled socket holds unsent in the kernel near the mark', async () => {
    const held = async (lowatBytes: number | undefined): Promise<number> => {
      await using pair = await tcpPair();
      if (lowatBytes !== undefined) api.setNotsentLowat(socketFd(pair.near), lowatBytes);
      for (let i = 0; i < 64; i++) pair.near.write(randomBytes(256 * 1024));
      // The reader never reads: the kernel takes what it will, and the next turns of the loop find nothing more to write.
      for (let turn = 0, before = -1; before !== pair.near.bytesWritten - pair.near.writableLength; turn++) {
        before = pair.near.bytesWritten - pair.near.writableLength;
        for (let i = 0; i < 20; i++) await new Promise(setImmediate);
      }
      return api.getNotsent(socketFd(pair.near));
    };
    const [marked, unmarked] = [await held(16_384), await held(undefined)];
    expect(marked).toBeLessThan(unmarked);
  });

  test('counts the bytes not yet sent from zero', async () => {
    await using pair = await tcpPair();
    expect(api.getNotsent(socketFd(pair.near))).toBe(0);
  });

  test('says when a socket has little left to send, and at once where it has nothing', async () => {
    await using pair = await tcpPair();
    const fd = socketFd(pair.near);
    api.setNotsentLowat(fd, 32_768);
    expect(await api.waitSendable(fd).promise).toBe(true);
    pair.near.write(randomBytes(32 * 1024 * 1024));
    const { promise } = api.waitSendable(fd);
    pair.far.resume();
    expect(await promise).toBe(true);
    expect(api.getNotsent(fd)).toBeLessThan(32 * 1024 * 1024);
  });

  test('gives up waiting when it is told to, and lets the connection go', async () => {
    await using pair = await tcpPair();
    pair.near.write(randomBytes(64 * 1024 * 1024));
    api.setNotsentLowat(socketFd(pair.near), 1);
    const { id, promise } = api.waitSendable(socketFd(pair.near));
    const closed = once(pair.far, 'close');
    pair.far.on('error', () => {});
    pair.near.destroy();
    expect(api.cancelSendable(id)).toBe(true);
    expect(await promise).toBe(false);
    expect(api.cancelSendable(id)).toBe(false);
    pair.far.resume();
    await closed;
  });

  test('is refused for what is no TCP socket', () => {
    const [near, far] = api.socketpair();
    expect(thrown(() => api.setNotsentLowat(near, 1))).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'setsockopt' });
    expect(thrown(() => api.getNotsent(near)).code).toBe('ENOTTY');
    expect(thrown(() => api.setNotsentLowat(1_000_000, 1)).code).toBe('EBADF');
    api.closeFd(near);
    api.closeFd(far);
  });
});
