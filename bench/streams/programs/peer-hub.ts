/** The hub that one would build on a peer: takes the operator's streams and opens one on the agent's connection for each. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { endWithBenchmark, programArgs, tell, tellFailures } from '../../programs.ts';
import { peerNamed } from '../peers/all.ts';
import { accepted } from '../peers/connections.ts';
import { join } from './join.ts';

const { peer: name, address } = programArgs<{ peer: string; address: string }>();

endWithBenchmark();
tellFailures();
const peer = peerNamed(name);
const ends = await peer.load();
const [forAgent, forOperator] = [await listen(), await listen()];
const [agents, operators] = [accepted(forAgent), accepted(forOperator)];
tell({ agentPort: portOf(forAgent), operatorPort: portOf(forOperator) });
const agent = await agents.next();
if (!peer.goesOn)
  agent.on('close', () => process.connected && tell({ fails: 'the connection was lost, and its streams with it' }));
const open = await ends.opener(agent, agents);
tell({ connected: 'agent' });
await ends.taker(await operators.next(), (stream) => void relay(stream), operators);

async function relay(stream: Duplex): Promise<void> {
  join(stream, await open());
}

async function listen(): Promise<Server> {
  const server = createServer({ noDelay: true });
  server.listen(0, address);
  await once(server, 'listening');
  return server;
}

function portOf(server: Server): number {
  // SAFETY: a server that listens on TCP has an AddressInfo.
  return (server.address() as AddressInfo).port;
}
