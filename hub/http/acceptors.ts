/**
 * More hands at the one listening socket. libuv takes one connection in each turn of the event loop, and a turn of a hub to which a fleet
 * comes back is long: the kernel's queue runs over, and whoever is dropped there tries again after 1, 3 and 7 s, probes and operators
 * too. So the socket is put into the loop several times, by duplicates of its descriptor, each of which takes one connection a turn and
 * gives it to the server. How many are let in is still the admission's to say.
 *
 * Without the add-on there is the one hand that Node has.
 */
import type { Server } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { loadNative } from '../../native/index.ts';
import { socketFd } from '../../native/socket-fd.ts';

/** Each is one more call to the kernel for nothing where only one connection comes. */
const MORE_HANDS = 7;

/** Of a server that listens. Disposing takes no more by them; connections that are there stay. */
export function addAcceptors(server: Server): Disposable {
  using hands = new DisposableStack();
  const native = loadNative();
  if (!native.available) return hands.move();
  for (let count = 0; count < MORE_HANDS; count++) {
    const [fd, other] = native.api.socketpair();
    native.api.swapInto(fd, socketFd(server));
    native.api.closeFd(other);
    const hand = createServer({ noDelay: true }, (socket: Socket) => server.emit('connection', socket));
    // Until it listens the descriptor is nobody's; what fails then, such as a limit of files, is felt at the first hand too.
    hand.on('error', () => {});
    hands.defer(() => void hand.close());
    hand.listen({ fd });
  }
  return hands.move();
}
