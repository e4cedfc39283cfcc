/** The baseline of memory: a bare `ws` server that answers pings, and tells its memory when asked. */
import { WebSocketServer } from 'ws';
import { endWithBenchmark, tell } from '../../programs.ts';
import { collector } from '../collector.ts';

endWithBenchmark();
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false, backlog: 4096 });
server.on('connection', (socket) => {
  socket.on('message', () => {});
  socket.on('error', () => {});
});
server.once('listening', () => {
  const address = server.address();
  if (typeof address === 'string' || address === null) throw new Error('a TCP port was asked for');
  tell({ port: address.port });
});

const collect = collector();
process.on('message', () => {
  collect();
  tell({ rssBytes: process.memoryUsage.rss(), connections: server.clients.size });
});
