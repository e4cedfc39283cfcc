/** As many bare `ws` connections as asked for; says so when all are there. */
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const AT_ONCE = 64;

endWithBenchmark();
const { port, hosts } = programArgs<{ port: number; hosts: number }>();
let left = hosts;
const connect = async (): Promise<void> => {
  while (left-- > 0) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
    await once(socket, 'open');
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, connect));
tell({ connected: hosts });
