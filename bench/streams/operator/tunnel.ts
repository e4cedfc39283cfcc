/** A line as its operator sees it, whoever made it. */
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import { connectHub } from '../../../cli/connection.ts';
import { HOST } from '../../line/fixture.ts';
import { peerNamed } from '../peers/all.ts';
import { dialled } from '../peers/connections.ts';
import { exchange } from './exchange.ts';

export type TunnelAddress =
  | { readonly kind: 'ours'; readonly hub: string; readonly token: string }
  | { readonly kind: 'relay'; readonly address: string; readonly port: number }
  | { readonly kind: 'peer'; readonly peer: string; readonly address: string; readonly port: number };

export interface Tunnel {
  /** False of a plain relay, which has one flow for bulk and one for what comes back. */
  readonly hasStreams: boolean;
  /** A stream to the sink, which does with it as `role` says (programs/sink.ts). */
  open(role: 'b' | 'e' | 's' | 'h'): Promise<Duplex>;
  /** A control call and its answer. */
  call(): Promise<void>;
}

const CALL_TIMEOUT_MS = 60_000;
/** As the other hop of the plain relay has it. */
const RELAY_HIGH_WATER_BYTES = 1024 * 1024;
const REQUEST = Buffer.alloc(64, 0x2e);

export async function openTunnel(address: TunnelAddress): Promise<Tunnel> {
  switch (address.kind) {
    case 'ours':
      return ours(address);
    case 'relay':
      return relay(address);
    case 'peer':
      return peer(address);
  }
}

async function ours({ hub, token }: TunnelAddress & { kind: 'ours' }): Promise<Tunnel> {
  const operator = await connectHub({ hub, token }, { timeoutMs: CALL_TIMEOUT_MS });
  return {
    hasStreams: true,
    async open(role) {
      const { stream } = await operator.openStream({ vm: 'sink', port: 1 }, { host: HOST });
      stream.write(role);
      return stream;
    },
    call: async () => void (await operator.call('vm.list', {}, HOST)),
  };
}

/** Calls go over a stream of their own: that is all that there is. */
async function peer({ peer: name, address, port }: TunnelAddress & { kind: 'peer' }): Promise<Tunnel> {
  const ends = await peerNamed(name).load();
  const connections = dialled(address, port);
  const openStream = await ends.opener(await connections.next(), connections);
  const open = async (role: string): Promise<Duplex> => {
    const stream = await openStream();
    stream.write(role);
    return stream;
  };
  const calls = await open('e');
  return { hasStreams: true, open, call: () => exchange(calls, REQUEST) };
}

/** One flow each way and no streams: all that is counted is one, and all that comes back is another. */
async function relay({ address, port }: TunnelAddress & { kind: 'relay' }): Promise<Tunnel> {
  const socket = new WebSocket(`ws://${address}:${port}/operator`, { perMessageDeflate: false });
  await once(socket, 'open');
  const echoed = new Duplex({
    read() {},
    write: (chunk: Buffer, _encoding, done) => socket.send(chunk.toString(), () => done()),
  });
  socket.on('message', (data: Buffer) => echoed.push(data));
  const counted = (): Duplex =>
    new Duplex({
      read() {},
      highWaterMark: 1,
      write(chunk: Buffer, _encoding, done) {
        if (socket.bufferedAmount <= RELAY_HIGH_WATER_BYTES) {
          socket.send(chunk, { binary: true });
          done();
        } else socket.send(chunk, { binary: true }, () => done());
      },
    });
  return {
    hasStreams: false,
    async open(role) {
      if (role === 'b') return counted();
      if (role === 'e') return echoed;
      throw new Error('it has one flow and no streams');
    },
    call: () => exchange(echoed, REQUEST),
  };
}
