/** The baseline of memory: a bare `ws` server that answers pings, and tells its memory when asked. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { WebSocketServer } from 'ws';
import { endWithBenchmark, tell } from '../../programs.ts';

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

setFlagsFromString('--expose-gc');
// SAFETY: the flag of the line above puts it into every context that is made from then on.
const collect = runInNewContext('gc') as () => void;
process.on('message', () => {
  collect();
  setTimeout(() => {
    collect();
    tell({ rssBytes: process.memoryUsage.rss(), connections: server.clients.size });
  }, 200);
});
