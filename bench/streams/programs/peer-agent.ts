/** The agent that one would build on a peer: dials out, and joins each stream that the hub opens to the unix socket. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { endWithBenchmark, programArgs, tell, tellFailures } from '../../programs.ts';
import { peerNamed } from '../peers/all.ts';
import { join } from './join.ts';

const { peer, address, port, path } = programArgs<{ peer: string; address: string; port: number; path: string }>();

endWithBenchmark();
tellFailures();
const ends = await peerNamed(peer).load();
const socket = connect({ host: address, port, noDelay: true });
await once(socket, 'connect');
socket.on('error', () => {});
await ends.taker(socket, (stream) => join(stream, connect({ path, allowHalfOpen: true })));
tell({ ready: true });
