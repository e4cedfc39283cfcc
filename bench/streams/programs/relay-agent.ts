/** Baseline, second hop: binary messages go into a counted connection to the sink, and texts to one that sends them back. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { WebSocket } from 'ws';
import { endWithBenchmark, programArgs, tell, tellFailures } from '../../programs.ts';

const { address, port, path } = programArgs<{ address: string; port: number; path: string }>();

endWithBenchmark();
tellFailures();
const socket = new WebSocket(`ws://${address}:${port}/agent`, { perMessageDeflate: false });
await once(socket, 'open');
const [counted, echoed] = [await reach('b'), await reach('e')];
socket.on('message', (data: Buffer, isBinary) => {
  const target = isBinary ? counted : echoed;
  if (!target.write(data)) socket.pause();
});
for (const target of [counted, echoed]) {
  target.on('drain', () => !counted.writableNeedDrain && !echoed.writableNeedDrain && socket.resume());
}
echoed.on('data', (chunk) => socket.send(chunk, { binary: false }));
tell({ ready: true });

async function reach(role: string): Promise<Socket> {
  const target = connect(path);
  await once(target, 'connect');
  target.write(role);
  return target;
}
