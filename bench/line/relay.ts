/** The baseline's line: a bare `ws` relay of two hops in front of a unix socket, with the same three processes as ours. */
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { maskOptions } from '../../shared/node/ws-socket.ts';
import { startProgram } from '../programs.ts';

/** The operator's end. `path` is where the far end leads; with `lines`, each line that comes back is one message. */
export async function openRelay(scope: AsyncDisposableStack, path: string, { lines }: { lines: boolean }): Promise<WebSocket> {
  const hub = scope.use(await startProgram('line/programs/relay-hub.ts'));
  const { port } = hub.ready;
  scope.use(await startProgram('line/programs/relay-agent.ts', { port, path, lines }));
  const url = new URL(`ws://127.0.0.1:${String(port)}/operator`);
  // Masks cost both sides the same, or neither.
  const operator = new WebSocket(url, { perMessageDeflate: false, ...maskOptions(url) });
  scope.defer(() => operator.terminate());
  await once(operator, 'open');
  return operator;
}
