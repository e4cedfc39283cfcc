/** A wire between an agent and its hub that can be cut: every connection goes through, until all are destroyed at once. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { endWithBenchmark, tell } from '../../programs.ts';

const open = new Set<Socket>();
let hubPort = 0;

endWithBenchmark();
process.on('message', (order: { hubPort?: number; cut?: true }) => {
  if (order.hubPort !== undefined) hubPort = order.hubPort;
  if (order.cut) for (const socket of open) socket.destroy();
});
const server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
  const far = connect({ host: '127.0.0.1', port: hubPort, noDelay: true, allowHalfOpen: true });
  for (const socket of [near, far]) {
    open.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      open.delete(socket);
      near.destroy();
      far.destroy();
    });
  }
  near.pipe(far);
  far.pipe(near);
});
// SAFETY: a server that listens on TCP has an AddressInfo.
server.listen(0, '127.0.0.1', () => tell({ port: (server.address() as AddressInfo).port }));
