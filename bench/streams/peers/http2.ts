/** Node's own HTTP/2 without TLS. The one that opens streams is the client, whoever dialled. */
import { once } from 'node:events';
import { connect, type Http2Session, performServerHandshake } from 'node:http2';
import type { Peer } from './mux.ts';

const STREAM_WINDOW_BYTES = 256 * 1024;
/** Of a session, as good as none: a session's window that stalled streams use up would stop the others. */
const SESSION_WINDOW_BYTES = 2 ** 31 - 1;
const OPTIONS = {
  settings: { initialWindowSize: STREAM_WINDOW_BYTES, maxFrameSize: 64 * 1024, maxConcurrentStreams: 4096, enablePush: false },
  peerMaxConcurrentStreams: 4096,
  /** MB; 10 by default, beyond which streams are refused. */
  maxSessionMemory: 1024,
};

export const http2: Peer = {
  name: 'http2',
  settings: `Node ${process.version}; initialWindowSize 256 KiB, setLocalWindowSize 2 GiB, maxFrameSize 64 KiB, maxSessionMemory 1024`,
  async load() {
    return {
      async opener(socket) {
        const session = connect('http://peer', { ...OPTIONS, createConnection: () => socket });
        await opened(session);
        return async () => session.request({ ':method': 'POST', ':path': '/' }, { endStream: false });
      },
      async taker(socket, take) {
        const session = performServerHandshake(socket, OPTIONS);
        session.on('stream', (stream) => {
          stream.respond({ ':status': 200 });
          take(stream);
        });
        await opened(session);
      },
    };
  },
};

async function opened(session: Http2Session): Promise<void> {
  await once(session, 'remoteSettings');
  session.setLocalWindowSize(SESSION_WINDOW_BYTES);
}
