/**
 * Listens for one line, fills it with bulk streams, and looks after each message how much of all that was written is not sent yet: what Node
 * holds and what the kernel does. Tells the greatest of them, after `settleBytes`, and the rate of the line meanwhile.
 */
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { WebSocketServer } from 'ws';
import { endWithBenchmark, programArgs, tell } from '../../../bench/programs.ts';
import { requireNative } from '../../../native/index.ts';
import { socketFd } from '../../../native/socket-fd.ts';
import { watchUnsent } from '../../../native/unsent.ts';
import { Line } from '../../../shared/line/line.ts';
import type { MessageSocket } from '../../../shared/line/message-socket.ts';
import { MuxChannel } from '../../../shared/mux/channel.ts';
import { belowServer, WS_OPTIONS, wsSocket } from '../../../shared/node/ws-socket.ts';
import { pourInto } from '../modelled-line.ts';

interface Args {
  readonly address: string;
  readonly streams: number;
  readonly settleBytes: number;
  readonly bytes: number;
}

const { address, streams, settleBytes, bytes } = programArgs<Args>();
const api = requireNative();

/** Written and not sent. `bufferedAmount` counts all of a message of which the kernel has taken a part. */
function unsentBytes(tcp: Socket): number {
  // SAFETY: a socket that is open has a handle of libuv, which has both of these numbers (node:net uses them).
  const handle = Reflect.get(tcp, '_handle') as { bytesWritten: number; writeQueueSize: number };
  const taken = handle.bytesWritten - handle.writeQueueSize;
  return tcp.bytesWritten - taken + api.getNotsent(socketFd(tcp));
}

/** The same socket, looked at after each message: nothing adds to what waits but these. */
function watched(inner: MessageSocket, look: () => void): MessageSocket {
  return {
    start: (handlers) => inner.start(handlers),
    soon: (task) => inner.soon(task),
    get bufferedBytes() {
      return inner.bufferedBytes;
    },
    drainBelow: (least) => inner.drainBelow?.(least),
    close: (code, reason) => inner.close(code, reason),
    terminate: () => inner.terminate(),
    sendText: (text) => {
      inner.sendText(text);
      look();
    },
    sendBinary: (parts) => {
      inner.sendBinary(parts);
      look();
    },
  };
}

endWithBenchmark();
const server = new WebSocketServer({ port: 0, host: address, ...WS_OPTIONS });
await once(server, 'listening');
server.on('connection', (socket, { socket: tcp }) => {
  const unsent = watchUnsent(tcp);
  if ('reason' in unsent) throw new Error(unsent.reason);
  let from: { readonly bytes: number; readonly at: number } | undefined;
  let isOver = false;
  const looks: number[] = [];
  const look = (): void => {
    if (isOver || tcp.bytesWritten < settleBytes) return;
    from ??= { bytes: tcp.bytesWritten, at: performance.now() };
    looks.push(unsentBytes(tcp));
    isOver = tcp.bytesWritten >= from.bytes + bytes;
    if (isOver) tell({ looks, bytesPerMs: (tcp.bytesWritten - from.bytes) / (performance.now() - from.at) });
  };
  const line = new Line({
    socket: watched(wsSocket(socket, belowServer(tcp), unsent), look),
    role: 'acceptor',
    hello: { contract: 1, software: 'test/1', role: 'hub' },
    handlers: { onRequest: async () => ({}) },
  });
  void line.ready.then(async () => {
    for (let index = 0; index < streams; index += 1) pourInto(await MuxChannel.open(line.mux, { index }));
  });
});
// SAFETY: it listens on TCP.
tell({ port: (server.address() as AddressInfo).port });
