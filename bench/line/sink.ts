/** A unix socket that swallows bytes and tells each time another `batchBytes` have come. */
import { createServer } from 'node:net';
import { programArgs, tell } from '../programs.ts';

const { path, batchBytes } = programArgs<{ path: string; batchBytes: number }>();
let received = 0;

createServer((socket) => {
  socket.on('data', (chunk) => {
    received += chunk.length;
    for (; received >= batchBytes; received -= batchBytes) tell({ batch: true });
  });
}).listen(path, () => tell({ ready: true }));
process.on('disconnect', () => process.exit());
