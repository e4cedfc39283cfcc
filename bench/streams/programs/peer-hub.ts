/** The hub that one would build on a peer: takes the operator's streams and opens one on the agent's connection for each. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { endWithBenchmark, programArgs, tell, tellFailures } from '../../programs.ts';
import { peerNamed } from '../peers/all.ts';
import { join } from './join.ts';

const { peer, address } = programArgs<{ peer: string; address: string }>();

endWithBenchmark();
tellFailures();
const ends = await peerNamed(peer).load();
const [agents, operators] = [await listen(), await listen()];
tell({ agentPort: portOf(agents), operatorPort: portOf(operators) });
const agent = await connectionTo(agents);
// None of the peers goes on over another connection as it is used here: dev-tunnels-ssh does, where it encrypts.
agent.on('close', () => process.connected && tell({ fails: 'the connection was lost, and its streams with it' }));
const open = await ends.opener(agent);
tell({ connected: 'agent' });
const taken = connectionTo(operators).then((socket) => ends.taker(socket, (stream) => void relay(stream)));
await taken;

async function relay(stream: Duplex): Promise<void> {
  join(stream, await open());
}

async function listen(): Promise<Server> {
  const server = createServer({ noDelay: true });
  server.listen(0, address);
  await once(server, 'listening');
  return server;
}

async function connectionTo(server: Server): Promise<Socket> {
  // SAFETY: what a net.Server emits with this event.
  const [socket] = (await once(server, 'connection')) as [Socket];
  socket.on('error', () => {});
  return socket;
}

function portOf(server: Server): number {
  // SAFETY: a server that listens on TCP has an AddressInfo.
  return (server.address() as AddressInfo).port;
}
