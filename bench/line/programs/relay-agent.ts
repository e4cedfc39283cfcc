/** Baseline, second hop: dials the bare relay and joins what comes to a unix socket, message by message; `lines` answers by lines (QMP). */
import { connect } from 'node:net';
import { WebSocket } from 'ws';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const { port, path, lines } = programArgs<{ port: number; path: string; lines: boolean }>();
const target = connect(path);
const socket = new WebSocket(`ws://127.0.0.1:${port}/agent`, { perMessageDeflate: false });
let rest = '';

endWithBenchmark();
socket.on('message', (data: Buffer) => {
  if (!target.write(data)) socket.pause();
});
target.on('drain', () => socket.resume());
target.on('data', (chunk) => {
  if (!lines) return socket.send(chunk);
  const parts = (rest + chunk.toString()).split('\n');
  rest = parts.pop() ?? '';
  for (const line of parts) socket.send(line);
});
socket.on('open', () => tell({ ready: true }));
