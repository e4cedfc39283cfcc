/** bpmux: streams that are Node's own Duplex, credit by the reader's buffer, round robin over what the carrier can take. */
import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { loadPeer } from './installed.ts';
import type { Peer } from './mux.ts';

interface BpMux extends EventEmitter {
  multiplex(options?: object): Duplex;
}

interface Module {
  readonly BPMux: new (carrier: Socket, options?: object) => BpMux;
}

/**
 * A stream's buffer, which is its window. Of 16 KiB to 1 MiB, with `coalesce_writes` and without, this without was best over 1 and 64
 * streams taken together: with more, many streams get in each other's way.
 */
const STREAM = { highWaterMark: 64 * 1024 };

export const bpmux: Peer = {
  name: 'bpmux',
  settings: '8.2.1; highWaterMark 64 KiB, no coalesce_writes (its defaults), TCP_NODELAY',
  async load() {
    // It uses util._extend; the warning is for its author.
    process.noDeprecation = true;
    const { BPMux } = await loadPeer<Module>('bpmux/index.js');
    return {
      async opener(socket) {
        const mux = new BPMux(socket, { peer_multiplex_options: STREAM });
        return async () => mux.multiplex(STREAM);
      },
      async taker(socket, take) {
        const mux = new BPMux(socket, { high_channels: true, peer_multiplex_options: STREAM });
        mux.on('handshake', take);
      },
    };
  },
};
