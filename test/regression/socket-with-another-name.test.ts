/**
 * A QEMU that runs as a user of its own and was broken out of could put a hard link to a socket of the host in the place of the agent's, in
 * the directory that is its own, where the kernel lets everybody link to everything (fs.protected_hardlinks=0): the agent gave it away.
 */
import { once } from 'node:events';
import { chmod, link, mkdtemp, rm, stat } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { restrictSocket } from '../../agent/vm/plain-socket.ts';

test('a socket that has another name too is not touched', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-linked-'));
  const [victim, path] = [join(directory, 'victim.sock'), join(directory, 'a.sock')];
  const server = net.createServer();
  try {
    server.listen(victim);
    await once(server, 'listening');
    await chmod(victim, 0o666);
    await link(victim, path);
    const give = (): void => restrictSocket(path, { uid: 65534, gid: 65534 });
    expect(give).toThrow(expect.objectContaining({ code: 'PERMISSION_DENIED' }));
    expect(await stat(victim)).toMatchObject({ uid: process.geteuid?.(), mode: expect.any(Number) });
    expect((await stat(victim)).mode & 0o777).toBe(0o666);
  } finally {
    server.close();
    await rm(directory, { recursive: true, force: true });
  }
});
