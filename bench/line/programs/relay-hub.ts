/** Baseline, first hop: a bare `ws` server that passes messages between the one that dialled `/agent` and the one that dialled `/operator`. */
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const HIGH_WATER_BYTES = 1024 * 1024;
const { address = '127.0.0.1' } = programArgs<{ address?: string }>();
const server = new WebSocketServer({ host: address, port: 0, perMessageDeflate: false, maxPayload: 1024 * 1024 });
const ends: { agent?: WebSocket; operator?: WebSocket } = {};

endWithBenchmark();
server.on('connection', (socket, request) => {
  const own = request.url === '/agent' ? 'agent' : 'operator';
  const other = own === 'agent' ? 'operator' : 'agent';
  ends[own] = socket;
  tell({ connected: own });
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    const target = ends[other];
    if (target === undefined) return;
    target.send(data, { binary: isBinary }, () => target.bufferedAmount <= HIGH_WATER_BYTES && socket.resume());
    if (target.bufferedAmount > HIGH_WATER_BYTES) socket.pause();
  });
});
// SAFETY: a server that listens on TCP has an AddressInfo.
server.on('listening', () => tell({ port: (server.address() as AddressInfo).port }));
