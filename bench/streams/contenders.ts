/** Who takes part: ours through a real hub and a real agent, a plain relay, and each peer as one would build hub and agent on it. */
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { HOST } from '../line/fixture.ts';
import { type Program, startProgram } from '../programs.ts';
import { ContenderLine, type Parts } from './line.ts';
import type { TunnelAddress } from './operator/tunnel.ts';
import { PEERS } from './peers/all.ts';
import type { Peer } from './peers/mux.ts';
import type { Place } from './place.ts';

export interface Contender {
  /** `ours` and `baseline` are judged; peers have their own names. */
  readonly name: string;
  readonly settings: string;
  /** The line ends with the scope. */
  start(scope: AsyncDisposableStack, place: Place, parent: string): Promise<ContenderLine>;
}

const ours: Contender = {
  name: 'ours',
  settings: 'one WebSocket a hop, as shipped: masks are zeros on loopback',
  async start(scope, place, parent) {
    const { sink, path, directory } = await startSink(scope, parent);
    const hub = scope.use(
      await startProgram('line/programs/hub.ts', { logFile: join(directory, 'hub.log'), address: place.address }, place.hubSide),
    );
    // SAFETY: what programs/hub.ts says when it is ready.
    const { url, adminToken, enrolToken } = hub.ready as { url: string; adminToken: string; enrolToken: string };
    const dialled = new URL(url);
    dialled.port = String(place.portTo(Number(dialled.port)));
    const args = { hub: dialled.origin, token: enrolToken, host: HOST, stateDir: join(directory, 'state'), path };
    const agent = scope.use(await startProgram('line/programs/sink-agent.ts', args, place.agentSide));
    await hub.next();
    return withOperator(scope, place, { kind: 'ours', hub: url, token: adminToken }, { hub, agent, sink });
  },
};

const baseline: Contender = {
  name: 'baseline',
  settings: 'plain ws relay of two hops whose operator masks, messages of 64 KiB, 1 MiB may wait at each hop',
  async start(scope, place, parent) {
    const { sink, path } = await startSink(scope, parent);
    const { address } = place;
    const hub = scope.use(await startProgram('line/programs/relay-hub.ts', { address }, place.hubSide));
    const port = Number(hub.ready['port']);
    const args = { address, port: place.portTo(port), path };
    const agent = scope.use(await startProgram('streams/programs/relay-agent.ts', args, place.agentSide));
    return withOperator(scope, place, { kind: 'relay', address, port }, { hub, agent, sink });
  },
};

export const CONTENDERS: readonly Contender[] = [ours, baseline, ...PEERS.map(peerContender)];

function peerContender({ name: peer, settings }: Peer): Contender {
  return {
    name: peer,
    settings,
    async start(scope, place, parent) {
      const { sink, path } = await startSink(scope, parent);
      const { address } = place;
      const hub = scope.use(await startProgram('streams/programs/peer-hub.ts', { peer, address }, place.hubSide));
      // SAFETY: what programs/peer-hub.ts says when it is ready.
      const { agentPort, operatorPort } = hub.ready as { agentPort: number; operatorPort: number };
      const args = { peer, address, port: place.portTo(agentPort), path };
      const agent = scope.use(await startProgram('streams/programs/peer-agent.ts', args, place.agentSide));
      await hub.next();
      return withOperator(scope, place, { kind: 'peer', peer, address, port: operatorPort }, { hub, agent, sink });
    },
  };
}

async function withOperator(
  scope: AsyncDisposableStack,
  place: Place,
  address: TunnelAddress,
  parts: Omit<Parts, 'operator'>,
): Promise<ContenderLine> {
  const operator = scope.use(await startProgram('streams/programs/operator.ts', address, place.hubSide));
  return new ContenderLine({ ...parts, operator });
}

async function startSink(
  scope: AsyncDisposableStack,
  parent: string,
): Promise<{ sink: Program; path: string; directory: string }> {
  const directory = await mkdtemp(join(parent, 's'));
  const path = join(directory, 'sink');
  return { directory, path, sink: scope.use(await startProgram('streams/programs/sink.ts', { path })) };
}
