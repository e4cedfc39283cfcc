/**
 * The connections of one end to the other, one after another: a peer that goes on over another when one is lost asks for the next.
 * A connection that fails closes, and that is told by its peer.
 */
import { on, once } from 'node:events';
import { connect, type Server, type Socket } from 'node:net';

export interface Connections {
  /** Whether this end makes them, and not the other. */
  readonly dialled: boolean;
  /** @throws Error when the other end cannot be reached */
  next(): Promise<Socket>;
}

export function dialled(host: string, port: number): Connections {
  return {
    dialled: true,
    async next() {
      const socket = connect({ host, port, noDelay: true });
      await once(socket, 'connect');
      socket.on('error', () => {});
      return socket;
    },
  };
}

/** In the order in which they come, also those that come before they are asked for. */
export function accepted(server: Server): Connections {
  server.on('connection', (socket) => socket.on('error', () => {}));
  const came = on(server, 'connection');
  return {
    dialled: false,
    async next() {
      const { value } = await came.next();
      // SAFETY: what a net.Server emits with this event.
      return (value as [Socket])[0];
    },
  };
}
