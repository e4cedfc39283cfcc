import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { selfTest } from '../../native/self-test.ts';
import { checkSocketFd, socketFd } from '../../native/socket-fd.ts';
import { serverFrom, socketFrom } from '../../native/vsock-socket.ts';
import { openFds, thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';

const MIB = 1 << 20;

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

describeNative('a descriptor swapped under a socket of Node', (api) => {
  function pair(): [net.Socket, net.Socket] {
    const [near, far] = api.socketpair();
    return [socketFrom(api, near), socketFrom(api, far)];
  }

  test('passes its self-test', async () => {
    await expect(selfTest(api)).resolves.toBeUndefined();
  });

  test('echoes 8 MiB through both half-closes', async () => {
    const [near, far] = pair();
    far.pipe(far);
    const sent = randomBytes(8 * MIB);
    near.end(sent);
    expect(sha256(await buffer(near))).toBe(sha256(sent));
  });

  test('keeps reading after its own half-close', async () => {
    const [near, far] = pair();
    near.end('question');
    expect((await buffer(far)).toString()).toBe('question');
    far.end('answer');
    expect((await buffer(near)).toString()).toBe('answer');
  });

  test('holds back a writer whose reader is slow, and the event loop goes on', async () => {
    const [near, far] = pair();
    const sent = randomBytes(4 * MIB);
    expect(near.write(sent)).toBe(false);
    await new Promise(setImmediate);
    expect(near.writableLength).toBe(sent.length);
    near.end();
    expect(sha256(await buffer(far))).toBe(sha256(sent));
    near.destroy();
  });

  test('says end of file when the other end is closed', async () => {
    const [near, far] = pair();
    far.destroy();
    expect((await buffer(near)).length).toBe(0);
    near.destroy();
  });

  test('serves a listening descriptor through a server of Node', async () => {
    const { fd, path } = api.unixListenAbstract();
    await using server = serverFrom(api, fd);
    server.on('connection', (socket) => socket.pipe(socket));
    const replies = Array.from({ length: 16 }, async () => {
      const socket = net.connect({ path, allowHalfOpen: true });
      const sent = randomBytes(64 * 1024);
      socket.end(sent);
      expect(sha256(await buffer(socket))).toBe(sha256(sent));
    });
    await Promise.all(replies);
  });

  test('leaves no descriptor behind over 1,000 rounds', async () => {
    await selfTest(api);
    const before = openFds().size;
    for (let round = 0; round < 1_000; round++) {
      const [near, far] = pair();
      near.destroy();
      far.destroy();
      await Promise.all([once(near, 'close'), once(far, 'close')]);
    }
    expect(openFds().size).toBe(before);
  });

  test('closes what it was given when the swap cannot be made', () => {
    const before = openFds();
    expect(thrown(() => socketFrom(api, 1_000_000)).code).toBe('EBADF');
    expect(thrown(() => serverFrom(api, 1_000_000)).code).toBe('EBADF');
    expect(openFds().size).toBeLessThanOrEqual(before.size + 2); // Node closes its two handles in a later turn.
  });
});

describeNative('swapInto', (api) => {
  test('refuses a target or a source that is not open', () => {
    const [near, far] = api.socketpair();
    expect(thrown(() => api.swapInto(1_000_000, near))).toMatchObject({ code: 'EBADF', syscall: 'fcntl' });
    expect(thrown(() => api.swapInto(near, 1_000_000))).toMatchObject({ code: 'EBADF', syscall: 'fcntl' });
    expect(thrown(() => api.swapInto(near, near))).toMatchObject({ code: 'EINVAL', syscall: 'dup3' });
    api.closeFd(near);
    api.closeFd(far);
  });
});

describeNative('socketFd', (api) => {
  test('gives the number that the kernel knows', async () => {
    checkSocketFd(api);
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    expect(openFds().get(socketFd(server))).toMatch(/^socket:/);
    server.close();
  });

  test('says why when a socket has none', () => {
    const error = thrown(() => socketFd(new net.Socket()));
    expect(error.message).toBe('could not find the descriptor of a socket: EBADF; it is closed or not yet connected');
    expect(error.code).toBe('EBADF');
  });
});
