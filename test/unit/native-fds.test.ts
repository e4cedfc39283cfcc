import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openFds, thrown } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';

const folder = mkdtempSync(join(tmpdir(), 'native-fds-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The descriptors that a child finds open, one of them the directory that it reads. */
function inherited(): string[] {
  return spawnSync('ls', ['/proc/self/fd'], { encoding: 'utf8' }).stdout.trim().split('\n');
}

describeNative('passing descriptors', (api) => {
  test('gives the receiver its own close-on-exec copy of the same file', () => {
    const path = join(folder, 'passed');
    writeFileSync(path, 'contents');
    const file = openSync(path, 'r');
    const [near, far] = api.socketpair();
    expect(api.sendFds(near, [file, file], Buffer.from('two of them'))).toBe(11);
    const { fds, bytes } = api.recvFds(far, 100);
    expect(bytes.toString()).toBe('two of them');
    expect(fds).toHaveLength(2);
    expect(fds).not.toContain(file);
    expect(readFileSync(fds[0] ?? -1, 'utf8')).toBe('contents');
    for (const fd of [...fds, file, near, far]) api.closeFd(fd);
  });

  test('carries plain bytes, and no bytes at the end', () => {
    const [near, far] = api.socketpair();
    api.sendFds(near, [], Buffer.from('x'));
    expect(api.recvFds(far, 8)).toEqual({ fds: [], bytes: Buffer.from('x') });
    api.closeFd(near);
    expect(api.recvFds(far, 8)).toEqual({ fds: [], bytes: Buffer.alloc(0) });
    api.closeFd(far);
  });

  test('says EAGAIN, EPIPE, EBADF and ENOTSOCK by name and never waits', () => {
    const [near, far] = api.socketpair();
    expect(thrown(() => api.recvFds(near, 8)).code).toBe('EAGAIN');
    expect(thrown(() => api.sendFds(near, [1_000_000], Buffer.from('x'))).code).toBe('EBADF');
    api.closeFd(far);
    expect(thrown(() => api.sendFds(near, [], Buffer.from('x')))).toMatchObject({ code: 'EPIPE', syscall: 'sendmsg' });
    api.closeFd(near);
    const file = openSync(join(folder, 'plain'), 'w');
    expect(thrown(() => api.sendFds(file, [], Buffer.from('x'))).code).toBe('ENOTSOCK');
    api.closeFd(file);
  });

  test('carries as many as the kernel allows in one message', () => {
    const [near, far] = api.socketpair();
    api.sendFds(
      near,
      Array.from({ length: 253 }, () => near),
      Buffer.from('x'),
    );
    const { fds } = api.recvFds(far, 1);
    expect(new Set(fds).size).toBe(253);
    for (const fd of [...fds, near, far]) api.closeFd(fd);
  });
});

describeNative('descriptors', (api) => {
  test('are not inherited by children', () => {
    const before = inherited();
    const { fd: listener } = api.unixListenAbstract();
    const [near, far] = api.socketpair();
    const [target, source] = api.socketpair();
    api.swapInto(target, source);
    const pidfd = api.pidfdOpen(process.pid);
    void api.pidfdWait(pidfd).catch(() => {});
    api.sendFds(near, [listener], Buffer.from('x'));
    const received = api.recvFds(far, 1).fds;
    expect(inherited()).toEqual(before);
    for (const fd of [listener, near, far, target, source, ...received]) api.closeFd(fd);
    api.pidfdClose(pidfd);
  });

  test('are inherited where stdio says so', () => {
    const [near, far] = api.socketpair();
    spawnSync('sh', ['-c', 'echo hello >&3'], { stdio: ['ignore', 'ignore', 'ignore', far] });
    expect(api.recvFds(near, 100).bytes.toString()).toBe('hello\n');
    api.closeFd(near);
    api.closeFd(far);
  });

  test('do not leak over 1,000 rounds, failures included', () => {
    const path = join(folder, 'loop');
    const before = openFds().size;
    for (let round = 0; round < 1_000; round++) {
      const [near, far] = api.socketpair();
      api.sendFds(near, [near], Buffer.from('x'));
      for (const fd of api.recvFds(far, 1).fds) api.closeFd(fd);
      const listener = api.unixListen(path, 1);
      expect(thrown(() => api.unixListen(path, 1)).code).toBe('EADDRINUSE');
      expect(thrown(() => api.sdNotify('READY=1', join(folder, 'nobody'))).code).toBe('ENOENT');
      rmSync(path);
      for (const fd of [near, far, listener, api.pidfdOpen(process.pid)]) api.closeFd(fd);
    }
    expect(openFds().size).toBe(before);
  });

  test('closed twice are EBADF', () => {
    const [near, far] = api.socketpair();
    api.closeFd(near);
    expect(thrown(() => api.closeFd(near))).toMatchObject({ code: 'EBADF', syscall: 'close' });
    api.closeFd(far);
  });
});

describeNative('unixListen', (api) => {
  test('makes a socket of mode 0600 that a child can serve, whatever the umask', async () => {
    const path = join(folder, 'private');
    const before = process.umask(0);
    const fd = api.unixListen(path, 8);
    process.umask(before);
    expect(statSync(path).mode & 0o7777).toBe(0o600);
    await using server = net.createServer((socket) => socket.end('served'));
    server.listen({ fd });
    const socket = net.connect(path);
    const [chunk]: unknown[] = await once(socket, 'data');
    expect(String(chunk)).toBe('served');
  });

  test('says what is wrong with the path', () => {
    const long = join(folder, 'x'.repeat(108 - folder.length));
    expect(thrown(() => api.unixListen(long, 1)).message).toBe(
      `could not listen on unix socket ${long}: ENAMETOOLONG (File name too long); ` +
        'the path has 109 bytes and may have 107: use a shorter directory',
    );
    expect(thrown(() => api.unixListen(join(folder, 'no', 'such', 'folder'), 1)).code).toBe('ENOENT');
    const longest = join(folder, 'y'.repeat(106 - folder.length));
    expect(Buffer.byteLength(longest)).toBe(107);
    api.closeFd(api.unixListen(longest, 1));
  });

  test('refuses a path in use and says so', () => {
    const path = join(folder, 'used');
    const fd = api.unixListen(path, 1);
    expect(thrown(() => api.unixListen(path, 1)).message).toBe(
      `could not listen on unix socket ${path}: EADDRINUSE (Address already in use); remove the file where nothing uses it`,
    );
    api.closeFd(fd);
  });
});
