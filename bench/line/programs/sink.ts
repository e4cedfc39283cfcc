/** A unix socket that swallows bytes and tells each time another `batchBytes` have come, over all its connections. */
import { createServer } from 'node:net';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const { path, batchBytes } = programArgs<{ path: string; batchBytes: number }>();
let received = 0;

endWithBenchmark();
createServer((socket) => {
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    received += chunk.length;
    for (; received >= batchBytes; received -= batchBytes) tell({ batch: true });
  });
}).listen(path, () => tell({ ready: true }));
