/**
 * `fairlead forward VM LOCAL:PORT…`: ports of this machine that lead into a guest. Each connection is a stream of its own; all share one
 * line, which comes back by itself, and streams that are open live through its breaks.
 *
 * LOCAL is a port of loopback, an ADDRESS:PORT, or the path of a unix socket that only its owner can use.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Command } from 'commander';
import { toFairleadError } from '../../shared/errors.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import { type App, type Session, withHub } from '../app.ts';
import { durationOption } from '../duration.ts';
import { joinLocal, openPatiently } from '../join-local.ts';
import { type LocalAddress, listenLocally, parseForward } from '../local-address.ts';
import { Turns } from '../turns.ts';

/** A guest is there, or is made to be by whoever connects. */
const REACHABLE: readonly VmState[] = ['running', 'starting', 'suspending', 'suspended', 'resuming'];

/**
 * Connections into the guest that are being made at a time. A guest that gets a thousand at once is slow to answer each of them, and a host of an
 * earlier version then takes it for stuck.
 */
const OPENING_AT_A_TIME = 64;

interface Forward {
  readonly local: LocalAddress;
  readonly port: number;
}

interface ForwardOptions {
  readonly host?: string;
  readonly connectTimeout: number;
  readonly idleTimeout: number;
}

export function registerForward(program: Command, app: App): void {
  program
    .command('forward')
    .description("let ports of this machine lead to a guest's vsock ports, until it is ended")
    .argument('<vm>', 'name of the VM')
    .argument('<local:port...>', '[ADDRESS:]PORT or /PATH here (0: any free port), a colon, and the vsock port', collectForwards)
    .option('--host <host>', 'the host that the VM is on')
    .addOption(
      durationOption('--connect-timeout <duration>', 'how long to retry a guest, a host or a hub that is not there', '30s'),
    )
    .addOption(
      durationOption(
        '--idle-timeout <duration>',
        'after a local program has ended its half, how long to wait for a silent guest where the transport cannot half-close',
        '30s',
      ),
    )
    .action(async (vm: string, forwards: Forward[], options: ForwardOptions, command: Command) =>
      withHub(app, command, (session) => serve(app, session, { vm, forwards, options }), { lasting: true }),
    );
}

async function serve(
  app: App,
  { hub, output }: Session,
  { vm, forwards, options }: { readonly vm: string; readonly forwards: readonly Forward[]; readonly options: ForwardOptions },
): Promise<void> {
  await using scope = new AsyncDisposableStack();
  const opening = new Turns(OPENING_AT_A_TIME);
  for (const { local, port } of forwards) {
    const server = scope.adopt(serverFor(port), closed);
    const where = await listenLocally(server, local);
    output.say(`${where} leads to port ${port} of VM ${vm}`);
  }
  void tellIfAway();
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  app.signal.addEventListener('abort', () => resolve(), { once: true });
  if (!app.signal.aborted) await ended;

  /** Connections may come later than the VM; but a name that is wrong should not be found out by the first of them. */
  async function tellIfAway(): Promise<void> {
    const { host } = options;
    try {
      const { state } = await hub.call('vm.get', { vm }, host);
      if (REACHABLE.includes(state)) return;
      output.say(`VM ${vm} is ${state}: what connects fails until it runs`);
    } catch (thrown) {
      if (app.signal.aborted) return;
      output.say(`VM ${vm} cannot be reached yet: ${toFairleadError(thrown).message}; the ports stay open for when it can`);
    }
  }

  function serverFor(port: number): Server {
    return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on('error', () => {});
      carry(socket, port).catch((thrown: unknown) => {
        if (!app.signal.aborted) output.say(`a connection to port ${port} of VM ${vm} ended: ${toFairleadError(thrown).message}`);
      });
    });
  }

  async function carry(socket: Socket, port: number): Promise<void> {
    const gone = new AbortController();
    socket.once('close', () => gone.abort(new Error('its local end has gone')));
    const signal = AbortSignal.any([app.signal, gone.signal]);
    const { host, connectTimeout: connectTimeoutMs, idleTimeout } = options;
    try {
      const params = { vm, port, connectTimeoutMs, ...(host !== undefined && { host }) };
      const { stream, opened } = await opening.take(() => openPatiently(hub.client, params, signal), signal);
      await joinLocal(socket, stream, { idleMs: opened.halfClose ? undefined : idleTimeout, signal: app.signal });
    } catch (error) {
      // A program that waits for bytes must not take the end for an answer.
      if (socket.remoteAddress === undefined) socket.destroy();
      else socket.resetAndDestroy();
      throw error;
    }
  }
}

async function closed(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  await promise;
}

function collectForwards(text: string, before: readonly Forward[] = []): readonly Forward[] {
  return [...before, parseForward(text)];
}
