/** Microsoft's SSH of the dev tunnels, as its MultiChannelStream: SSH channels without encryption. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { loadPeer } from './installed.ts';
import type { Peer } from './mux.ts';

interface MultiChannelStream {
  connect(): Promise<void>;
  openStream(): Promise<Duplex>;
  acceptStream(): Promise<Duplex>;
}

interface Module {
  readonly MultiChannelStream: new (transport: object) => MultiChannelStream;
  readonly NodeStream: new (socket: Socket) => object;
}

export const devTunnelsSsh: Peer = {
  name: 'dev-tunnels-ssh',
  settings: '3.12.42; MultiChannelStream (no encryption), channelMaxWindowSize 1 MiB (its default), TCP_NODELAY',
  async load() {
    const { MultiChannelStream, NodeStream } = await loadPeer<Module>('@microsoft/dev-tunnels-ssh/index.js');
    return {
      async opener(socket) {
        const mux = new MultiChannelStream(new NodeStream(socket));
        await mux.connect();
        return () => mux.openStream();
      },
      async taker(socket, take) {
        const mux = new MultiChannelStream(new NodeStream(socket));
        await mux.connect();
        void takeAll(mux, take);
      },
    };
  },
};

async function takeAll(mux: MultiChannelStream, take: (stream: Duplex) => void): Promise<void> {
  for (;;) take(await mux.acceptStream());
}
