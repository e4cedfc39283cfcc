/**
 * A unix socket that listens already, for a QEMU to inherit as its monitor, as the agent does.
 *
 * One that QEMU makes by itself blocks: a client that comes while the monitor moves to its own thread is seen by two threads, the first
 * accepts it, and the second, which is QEMU's main loop, waits in `accept` for another until one comes (7.2 and 10.0, one start in some
 * thousands). Ours does not block.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { createServer } from 'node:net';
import { socketFd } from '../../native/socket-fd.ts';

/** Spawns what inherits it, and lets go of it, so that clients are not accepted here. The path stays. */
export async function withListeningSocket(path: string, spawn: (fd: number) => ChildProcess): Promise<ChildProcess> {
  const bound = `${path}.new`;
  const server = createServer((socket) => socket.destroy()).listen(bound);
  await once(server, 'listening');
  renameSync(bound, path);
  try {
    return spawn(socketFd(server));
  } finally {
    server.close();
  }
}
