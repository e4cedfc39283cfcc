/**
 * vsock connections as ordinary `net.Socket`s, with Node's own reads, vectored writes, back pressure and half-close.
 *
 * Node refuses an AF_VSOCK descriptor (ERR_INVALID_FD_TYPE: it knows AF_INET and AF_UNIX), but looks at the family only when it
 * opens one. So it is given an AF_UNIX socket, and in the same tick, before libuv tells the kernel to watch it, the vsock
 * socket takes the place behind that number (`swapInto`). The same goes for a listening server, whose accepting is then
 * Node's own too. `self-test.ts` proves on AF_UNIX sockets alone that the running Node still works this way.
 *
 * One thing the kernel does otherwise than with other families (linux/net/vmw_vsock/af_vsock.c): shutdown(2) forgets that the peer has
 * closed (SOCK_DONE), and until the peer has answered it, which it does with a reset, reading is ENOTCONN and not the end of file that it
 * was before and will be again. `endForNotConnected` takes it for that end.
 */
import net from 'node:net';
import type { NativeApi, VsockConnectOptions } from './api.ts';
import type { VsockAddress } from './binding.ts';
import { requireNative } from './index.ts';
import { socketFd } from './socket-fd.ts';

/** A connected socket that knows its peer: `remoteAddress` and `address()` say nothing for vsock. */
export type VsockSocket = net.Socket & { readonly peer: VsockAddress };

export interface VsockServer extends Disposable {
  readonly port: number;
  /** Stops accepting; the port is free when it returns. Connections made before go on. */
  close(): void;
}

export interface ListenVsockOptions {
  readonly port?: number | undefined;
  readonly cid?: number | undefined;
  /** 128 where absent. */
  readonly backlog?: number | undefined;
  readonly bufferBytes?: number | undefined;
  /** Takes over the socket: its errors and its end. `peer.cid` is set by the kernel and cannot be forged by a guest. */
  readonly onConnection: (socket: VsockSocket, peer: VsockAddress) => void;
  /** A connection that was gone before it could be taken, or accepting that failed; the server goes on. */
  readonly onError: (error: Error) => void;
}

/** Connects to a guest's port; see `vsockConnect` for its errors. The socket allows half-close: who ends it says `end()`. */
export async function connectVsock(options: VsockConnectOptions): Promise<VsockSocket> {
  const api = requireNative();
  const fd = await api.vsockConnect(options);
  const socket = endForNotConnected(socketFrom(api, fd));
  return Object.assign(socket, { peer: { cid: options.cid, port: options.port } });
}

/** Accepts connections of guests (or of this machine, over the loopback). Throws with the errno's name as `code`. */
export function listenVsock(options: ListenVsockOptions): VsockServer {
  const api = requireNative();
  const fd = api.vsockListen({
    cid: options.cid,
    port: options.port,
    backlog: options.backlog ?? 128,
    bufferBytes: options.bufferBytes,
  });
  const { port } = api.vsockLocal(fd);
  const server = serverFrom(api, fd);
  server.on('error', options.onError);
  server.on('connection', (socket) => {
    const peer = peerOf(api, socket);
    if (peer instanceof Error) {
      socket.destroy();
      options.onError(peer);
      return;
    }
    options.onConnection(Object.assign(endForNotConnected(socket), { peer }), peer);
  });
  const close = (): void => {
    server.close();
  };
  return { port, close, [Symbol.dispose]: close };
}

/** Reads the address while the connection lasts: it may have ended between the accept and now. */
function peerOf(api: NativeApi, socket: net.Socket): VsockAddress | Error {
  try {
    return api.vsockPeer(socketFd(socket));
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/**
 * Makes ENOTCONN an end of file for a socket that has ended its own half: such a socket was connected, and the kernel says that only when it
 * holds nothing more to read. Node reports an error of read(2) by `destroy`, after which it reads no more.
 */
export function endForNotConnected<T extends net.Socket>(socket: T): T {
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error?: Error): T => {
    const isEnd = isReadNotConnected(error) && socket.writableEnded && !socket.readableEnded && !socket.destroyed;
    if (!isEnd) return destroy(error);
    socket.push(null);
    // Tells Readable to look again: nothing else would make it see the end when its buffer is empty.
    socket.read(0);
    return socket;
  };
  return socket;
}

function isReadNotConnected(error: Error | undefined): boolean {
  return error !== undefined && 'code' in error && error.code === 'ENOTCONN' && 'syscall' in error && error.syscall === 'read';
}

/** A `net.Socket` over a connected stream descriptor of any family. Owns `fd` from the call on, whether it succeeds or not. */
export function socketFrom(api: NativeApi, fd: number): net.Socket {
  const [placeholder, other] = api.socketpair();
  let socket: net.Socket | undefined;
  try {
    socket = new net.Socket({ fd: placeholder, allowHalfOpen: true });
    api.swapInto(placeholder, fd);
    return socket;
  } catch (error) {
    if (socket === undefined) api.closeFd(placeholder);
    socket?.destroy();
    throw error;
  } finally {
    api.closeFd(other);
    api.closeFd(fd);
  }
}

/** A `net.Server` over a listening stream descriptor of any family. Owns `fd` from the call on, whether it succeeds or not. */
export function serverFrom(api: NativeApi, fd: number): net.Server {
  const placeholder = api.unixListenAbstract();
  const server = net.createServer({ allowHalfOpen: true });
  try {
    server.listen({ fd: placeholder.fd });
    if (!server.listening) return refuse(api, server, placeholder.fd);
    api.swapInto(placeholder.fd, fd);
    return server;
  } catch (error) {
    server.close();
    throw error;
  } finally {
    api.closeFd(fd);
  }
}

/** A Node that does not open the placeholder says so by an event of the next tick, which nobody could listen for yet. */
function refuse(api: NativeApi, server: net.Server, placeholder: number): never {
  server.once('error', () => {});
  api.closeFd(placeholder);
  throw new Error(`Node ${process.version} does not listen on a descriptor that it is given`);
}
