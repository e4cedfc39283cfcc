/**
 * The one place that knows how a socket of Node keeps its descriptor: `socket._handle.fd`, a private field that has been there
 * since Node 0.x and may go in any release. `checkSocketFd` proves at start-up that it still holds.
 */
import net from 'node:net';
import type { NativeApi } from './api.ts';

/**
 * The descriptor under a socket (TLS too: that of the connection below) or a listening server. It stays the socket's: never
 * close it. Throws an Error with code EBADF where there is none, because the socket is closed or Node has changed.
 */
export function socketFd(socket: net.Socket | net.Server): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  if (typeof fd === 'number' && fd >= 0) return fd;
  const why = handle === null || handle === undefined ? 'it is closed or not yet connected' : 'Node keeps it elsewhere';
  throw Object.assign(new Error(`could not find the descriptor of a socket: EBADF; ${why}`), { code: 'EBADF' });
}

/** Throws where `socketFd` would give a wrong answer on this version of Node. */
export function checkSocketFd(api: NativeApi): void {
  const [fd, other] = api.socketpair();
  try {
    const socket = new net.Socket({ fd });
    const found = socketFd(socket);
    socket.destroy();
    if (found !== fd) throw new Error(`Node ${process.version} gave descriptor ${found} for a socket on ${fd}`);
  } finally {
    api.closeFd(other);
  }
}
