/** The agent that one would build on a peer: dials out, and joins each stream that the hub opens to the unix socket. */
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { endWithBenchmark, programArgs, tell, tellFailures } from '../../programs.ts';
import { peerNamed } from '../peers/all.ts';
import { dialled } from '../peers/connections.ts';
import { join } from './join.ts';

const { peer, address, port, path } = programArgs<{ peer: string; address: string; port: number; path: string }>();

endWithBenchmark();
tellFailures();
const ends = await peerNamed(peer).load();
const connections = dialled(address, port);
const toSink = (stream: Duplex): void => join(stream, connect({ path, allowHalfOpen: true }));
await ends.taker(await connections.next(), toSink, connections);
tell({ ready: true });
