/**
 * One set-up at a time in a working copy.
 *
 * The lock is an abstract unix socket (unix(7)) named after the project's folder: the kernel frees it however its holder ends, so it can
 * never be stale, and a waiter sees that as the end of its connection.
 */
import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { PROJECT_DIR, say } from './step.mjs';

/** Waits for the lock; gives the function that frees it. */
export async function holdSetupLock() {
  const name = `\0fairlead-setup-${createHash('sha256').update(PROJECT_DIR).digest('hex').slice(0, 32)}`;
  for (let waited = false; ; waited = true) {
    const server = await tryToListen(name);
    if (server !== undefined) return () => server.close();
    if (!waited) say('waiting for another set-up of this project to end');
    await holderEnds(name);
  }
}

function tryToListen(name) {
  return new Promise((resolve, reject) => {
    const waiters = new Set();
    const server = createServer((socket) => {
      waiters.add(socket);
      socket.on('error', () => waiters.delete(socket)); // the waiter gave up
      socket.on('close', () => waiters.delete(socket));
    });
    const close = server.close.bind(server);
    server.close = () => {
      for (const socket of waiters) socket.destroy();
      return close();
    };
    server.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(name, () => resolve(server));
  });
}

/** Settles when the holder's end of a connection goes, or when nobody holds the lock any more. */
function holderEnds(name) {
  return new Promise((resolve) => {
    const socket = connect(name);
    socket.resume();
    socket.on('error', () => {}); // refused or reset: the holder is gone, and 'close' follows
    socket.on('close', resolve);
  });
}
