import { once } from 'node:events';
import { chmod, lstat, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { restrictSocket } from '../../agent/vm/plain-socket.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-socket-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test('a socket is for its owner alone, and still one to connect to', async () => {
  const path = join(directory, 'a.sock');
  const server = net.createServer((socket) => socket.end('hi'));
  server.listen(path);
  await once(server, 'listening');
  await chmod(path, 0o777);
  restrictSocket(path);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  const [greeting] = await once(net.connect(path), 'data');
  expect(String(greeting)).toBe('hi');
  server.close();
});

test('a link or a file that was put in its place is refused, and what it leads to keeps its mode', async () => {
  const victim = join(directory, 'victim');
  await writeFile(victim, '', { mode: 0o644 });
  const link = join(directory, 'link.sock');
  await symlink(victim, link);
  // Opened by itself, a link is no socket.
  expect(() => restrictSocket(link)).toThrow(expect.objectContaining({ code: 'PERMISSION_DENIED' }));
  expect(() => restrictSocket(victim)).toThrow(expect.objectContaining({ code: 'PERMISSION_DENIED' }));
  expect((await stat(victim)).mode & 0o777).toBe(0o644);
  expect((await lstat(link)).isSymbolicLink()).toBe(true);
});
