import { type ChildProcess, fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { socketFd } from '../../native/socket-fd.ts';
import { openFds, thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';
import { shortDirectory } from '../support/vsock-guest.ts';

const PROGRAM = join(import.meta.dirname, '../support/programs/socket-peer.ts');
const MAX_BYTES = 1 << 20;

/** A connection whose other end another process has, which does not read before it is told. */
async function peer(): Promise<AsyncDisposable & { near: net.Socket; fd: number; child: ChildProcess; pid: number }> {
  await using scope = new AsyncDisposableStack();
  const directory = scope.use(await shortDirectory());
  const path = join(directory.path, 's');
  const child = fork(PROGRAM, [path]);
  scope.defer(() => void child.kill('SIGKILL'));
  await once(child, 'message');
  const near = scope.adopt(net.connect({ path, allowHalfOpen: true }), (socket) => void socket.destroy());
  // Nobody reads at this end by itself.
  near.pause();
  await Promise.all([once(near, 'connect'), once(child, 'message')]);
  const all = scope.move();
  return { near, fd: socketFd(near), child, pid: child.pid ?? 0, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

describeNative('the input at the other end of a unix connection', (api) => {
  /** Writes pieces of these sizes, in turn, until the socket is full. What went in. */
  const fill = (fd: number, sizes: readonly number[]): Buffer => {
    const written: Buffer[] = [];
    for (let n = 0; ; n++) {
      const piece = randomBytes(sizes[n % sizes.length] ?? 1);
      try {
        const bytes = api.sendFds(fd, [], piece);
        written.push(piece.subarray(0, bytes));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
        return Buffer.concat(written);
      }
    }
  };
  const hashOf = (...parts: Buffer[]): string => createHash('sha256').update(Buffer.concat(parts)).digest('hex');

  test('is lifted out and put back, however the socket was filled, and no descriptor is left', async () => {
    for (const sizes of [[65_536], [1_000], [48_000, 3_000, 200_000], [16_385], [100, 65_536, 16_000, 7]]) {
      await using other = await peer();
      const before = openFds();
      const bytes = fill(other.fd, sizes);
      expect(api.getUntaken(other.fd)).toBeGreaterThanOrEqual(bytes.length);
      const all = { takenBytes: bytes.length, returnedBytes: bytes.length, cameBytes: 0 };
      for (let n = 0; n < 3; n++) expect(api.liftPeerInput(other.fd, other.pid, MAX_BYTES, 1)).toEqual(all);
      expect([...openFds().keys()]).toEqual([...before.keys()]);
      other.near.end();
      other.child.send('read');
      expect(await once(other.child, 'message')).toEqual([hashOf(bytes), undefined]);
    }
  });

  test('keeps its order when it is lifted out again and again while it flows', async () => {
    await using other = await peer();
    const bytes = randomBytes(8 << 20);
    let lifted = 0;
    other.child.send('read');
    other.near.end(bytes);
    const heard = once(other.child, 'message');
    while (other.near.writableLength > 0) {
      const { takenBytes, returnedBytes } = api.liftPeerInput(other.fd, other.pid, MAX_BYTES, 0);
      expect(returnedBytes).toBe(takenBytes);
      if (takenBytes > 0) lifted += 1;
      await turn();
    }
    expect(await heard).toEqual([hashOf(bytes), undefined]);
    expect(lifted).toBeGreaterThan(0);
  });

  test('is put back as soon as the other process has written something', async () => {
    await using other = await peer();
    const bytes = fill(other.fd, [4096]);
    other.child.send('write');
    const began = performance.now();
    expect(api.liftPeerInput(other.fd, other.pid, MAX_BYTES, 1_000)).toEqual({
      takenBytes: bytes.length,
      returnedBytes: bytes.length,
      cameBytes: 1_000,
    });
    expect(performance.now() - began).toBeLessThan(1_000);
  });

  test('is left alone where there is none, or something lies at this end', async () => {
    await using other = await peer();
    const nothing = { takenBytes: 0, returnedBytes: 0, cameBytes: 0 };
    expect(api.getUntaken(other.fd)).toBe(0);
    expect(api.liftPeerInput(other.fd, other.pid, MAX_BYTES, 1_000)).toEqual(nothing);
    fill(other.fd, [4096]);
    other.child.send('write');
    expect(await once(other.child, 'message')).toEqual(['written', undefined]);
    expect(api.liftPeerInput(other.fd, other.pid, MAX_BYTES, 1_000)).toEqual(nothing);
  });

  test('stays where it is when it cannot be lifted', async () => {
    await using other = await peer();
    const bytes = fill(other.fd, [4096]);
    const before = openFds();
    const refused = (fd: number, pid: number, maxBytes: number) => thrown(() => api.liftPeerInput(fd, pid, maxBytes, 1));
    // This process has one end, and not the other.
    expect(refused(other.fd, process.pid, MAX_BYTES)).toMatchObject({ code: 'ENOENT', syscall: 'readlink' });
    expect(refused(other.fd, 2 ** 31 - 1, MAX_BYTES)).toMatchObject({ code: 'ESRCH', syscall: 'pidfd_open' });
    expect(refused(other.fd, other.pid, bytes.length - 1)).toMatchObject({ code: 'EMSGSIZE' });
    expect(refused(1_000_000, other.pid, MAX_BYTES)).toMatchObject({ code: 'EBADF', syscall: 'fstat' });
    const pidfd = api.pidfdOpen(other.pid);
    expect(refused(pidfd, other.pid, MAX_BYTES)).toMatchObject({ code: 'ENOTSOCK' });
    expect(thrown(() => api.getUntaken(pidfd)).code).toBe('ENOTTY');
    api.pidfdClose(pidfd);
    const { fd } = api.unixListenAbstract();
    expect(refused(fd, other.pid, MAX_BYTES)).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'sock_diag' });
    api.closeFd(fd);
    expect([...openFds().keys()]).toEqual([...before.keys()]);
    other.near.end();
    await once(other.near, 'finish');
    expect(refused(other.fd, other.pid, MAX_BYTES)).toMatchObject({ code: 'EPIPE' });
    other.child.send('read');
    expect(await once(other.child, 'message')).toEqual([hashOf(bytes), undefined]);
  });
});
