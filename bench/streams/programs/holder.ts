/** Holds connections that nobody reads. */
import type { Socket } from 'node:net';
import { endWithBenchmark } from '../../programs.ts';

const held: Socket[] = [];

endWithBenchmark();
process.on('message', (_order, socket: Socket) => {
  socket.on('error', () => {});
  held.push(socket);
});
