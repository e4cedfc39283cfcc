/** The other end of test/integration/unsent.test.ts: dials `url` and reads all that comes on all streams, as fast as it comes. */
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { endWithBenchmark, programArgs, tell } from '../../../bench/programs.ts';
import { Line } from '../../../shared/line/line.ts';
import { MuxChannel } from '../../../shared/mux/channel.ts';
import { WS_OPTIONS, wsSocket } from '../../../shared/node/ws-socket.ts';

const { url } = programArgs<{ url: string }>();

endWithBenchmark();
const socket = new WebSocket(url, WS_OPTIONS);
const messages = wsSocket(socket);
await once(socket, 'open');
const line: Line = new Line({
  socket: messages,
  role: 'dialer',
  hello: { contract: 1, software: 'test/1', role: 'agent' },
  handlers: {
    onRequest: async () => ({}),
    onOpen: (stream, meta) => {
      const channel = MuxChannel.accept(line.mux, stream, {}, meta);
      const read = (): void => {
        while (channel.read() !== undefined);
      };
      channel.attach({ onReadable: read, onDrain: () => {}, onClose: () => {} });
    },
  },
});
await line.ready;
tell({ isReady: true });
