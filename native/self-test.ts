/**
 * Proves at start-up, in some milliseconds and on AF_UNIX sockets alone, that the running Node lets a descriptor be swapped under
 * its sockets and servers: connect through a swapped server, send more than the kernel's buffers hold, half-close, echo.
 */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import type { NativeApi } from './api.ts';
import { requireNative } from './index.ts';
import { checkSocketFd } from './socket-fd.ts';
import { serverFrom, socketFrom } from './vsock-socket.ts';

const TEST_BYTES = 1 << 20;
/** It is a matter of milliseconds; the limit is for a host that is too busy to run anything. */
const LIMIT_MS = 20_000;

/** Rejects with an Error of code ERR_NATIVE_SELF_TEST, its cause within, where vsock sockets cannot be trusted here. */
export async function selfTest(api: NativeApi = requireNative(), limitMs = LIMIT_MS): Promise<void> {
  try {
    checkSocketFd(api);
    await checkSwap(api, AbortSignal.timeout(limitMs));
  } catch (cause) {
    const message = `vsock sockets do not work on Node ${process.version}: the self-test of the descriptor swap failed`;
    throw Object.assign(new Error(message, { cause }), { code: 'ERR_NATIVE_SELF_TEST' });
  }
}

async function checkSwap(api: NativeApi, signal: AbortSignal): Promise<void> {
  using scope = new DisposableStack();
  const { fd, path } = api.unixListenAbstract();
  const server = serverFrom(api, fd);
  scope.defer(() => server.close());
  const [near, far] = api.socketpair();
  const sockets = [socketFrom(api, near), socketFrom(api, far), net.connect({ path, allowHalfOpen: true })];
  scope.defer(() => sockets.forEach((socket) => socket.destroy()));
  const [direct, directPeer, dialled] = sockets;
  if (direct === undefined || directPeer === undefined || dialled === undefined) throw new Error('no sockets');
  const [accepted]: net.Socket[] = await once(server, 'connection', { signal });
  if (accepted === undefined) throw new Error('the swapped server gave no socket');
  sockets.push(accepted);
  await Promise.all([checkEcho(direct, directPeer, signal), checkEcho(dialled, accepted, signal)]);
}

/** Sends, half-closes and compares what the other end sends back. The sockets are the caller's to close, also after an abort. */
async function checkEcho(socket: net.Socket, echo: net.Socket, signal: AbortSignal): Promise<void> {
  echo.on('error', (error) => socket.destroy(error));
  echo.pipe(echo);
  const bytes = randomBytes(TEST_BYTES);
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.end(bytes);
  await once(socket, 'end', { signal });
  if (hash.digest('hex') !== createHash('sha256').update(bytes).digest('hex')) throw new Error('the echo differs');
}
