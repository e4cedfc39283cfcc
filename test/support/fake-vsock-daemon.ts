/** A vhost-user device whose daemon is this process, as far as its sockets go, and a sleeping child, as far as its life goes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { identityOf } from '../../agent/process-identity.ts';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { silent } from './vm.ts';
import { shortDirectory } from './vsock-guest.ts';

export interface FakeVsockDaemon extends AsyncDisposable {
  readonly device: VsockDevice;
  /** Settles when the process that stands for the daemon has ended. */
  kill(): Promise<void>;
}

/** `serve` gets the guest's end of each connection that the host makes, once it is accepted. */
export async function startFakeVsockDaemon(
  serve: (guest: Socket) => void,
  options: { readonly lookMs?: number } = {},
): Promise<FakeVsockDaemon> {
  await using scope = new AsyncDisposableStack();
  const directory = scope.use(await shortDirectory());
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket.on('error', () => {}).once('close', () => open.delete(socket)));
    // The first chunk is the request, `CONNECT port\n`, and nothing else: the host waits for the answer.
    socket.once('data', () => {
      socket.write('OK 1\n');
      serve(socket);
    });
  });
  server.listen(join(directory.path, 'vs'));
  await once(server, 'listening');
  scope.defer(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const child: ChildProcess = spawn('sleep', ['1000'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const daemon = identityOf(child.pid ?? 0);
  if (daemon === undefined) throw new Error('the process that stands for the daemon has not started');
  const transport = vhostUserTransport({ binary: '', logger: silent, ...options });
  const device = scope.use(
    await transport.adopt({ vm: 'web', runDir: directory.path, state: { kind: 'vhost-user', cid: 3, daemon } }),
  );
  const all = scope.move();
  return {
    device,
    kill: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
