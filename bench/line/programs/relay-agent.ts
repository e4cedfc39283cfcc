/** Baseline, second hop: dials the bare relay and joins what comes to a unix socket, message by message; `lines` answers by lines (QMP). */
import { once } from 'node:events';
import { connect } from 'node:net';
import { WebSocket } from 'ws';
import { maskOptions } from '../../../shared/node/ws-socket.ts';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const { port, path, lines } = programArgs<{ port: number; path: string; lines: boolean }>();

endWithBenchmark();
const url = new URL(`ws://127.0.0.1:${port}/agent`);
const socket = new WebSocket(url, { perMessageDeflate: false, ...maskOptions(url) });
await once(socket, 'open');
// QMP greets whoever connects, so there has to be somebody to pass it on to.
const target = connect(path);
let rest = '';

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
tell({ ready: true });
