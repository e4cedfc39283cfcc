/**
 * Microsoft's SSH of the dev tunnels with its reconnection of sessions, which needs encryption (its ProtocolExtensions.md): whoever dialled is
 * the SSH client and dials again, and both ends send again what the other has not confirmed.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { callbackify } from 'node:util';
import type { Connections } from './connections.ts';
import { loadPeer } from './installed.ts';
import type { Peer } from './mux.ts';

/**
 * Before it dials again. What it says while it reconnects, such as that a stream was read on, gets into the handshake and ends the session: with
 * a stream that is read 3 in 15 reconnections fail without a pause, and none in 20 with 10 ms, in which what had come is read up.
 */
const RECONNECT_PAUSE_MS = 25;

type Event<T> = (listener: (told: T) => void) => unknown;

interface Channel {
  readonly onEof: Event<void>;
  /** Nothing to send is the end of what is sent. */
  send(data: Buffer): Promise<void>;
}

interface Session {
  readonly onAuthenticating: Event<{ authenticationPromise: Promise<object> }>;
  readonly onChannelOpening: Event<{ readonly channel: Channel }>;
  readonly onDisconnected: Event<void>;
  connect(transport: object): Promise<void>;
  openChannel(): Promise<Channel>;
}

interface ClientSession extends Session {
  authenticate(credentials: { username: string; publicKeys: object[] }): Promise<boolean>;
  reconnect(transport: object): Promise<void>;
}

interface ServerSession extends Session {
  readonly onClientAuthenticated: Event<void>;
  credentials: { publicKeys: object[] };
}

interface Configuration {
  readonly protocolExtensions: string[];
}

interface Module {
  readonly NodeStream: new (socket: Socket) => object;
  readonly SshAlgorithms: { readonly publicKey: { readonly ecdsaSha2Nistp384: { generateKeyPair(): Promise<object> } } };
  readonly SshClientSession: new (configuration: Configuration) => ClientSession;
  readonly SshProtocolExtensionNames: { readonly sessionReconnect: string };
  readonly SshServerSession: new (configuration: Configuration, reconnectable: ServerSession[]) => ServerSession;
  readonly SshSessionConfiguration: new () => Configuration;
  readonly SshStream: new (channel: Channel) => Duplex;
}

export const devTunnelsSshReconnect: Peer = {
  name: 'dev-tunnels-ssh-reconnect',
  settings:
    '3.12.42; sessions with sessionReconnect, so aes256-gcm on both hops, windows of 1 MiB (its defaults), TCP_NODELAY, dials again after 25 ms',
  goesOn: true,
  async load() {
    const ssh = await loadPeer<Module>('@microsoft/dev-tunnels-ssh/index.js');
    return {
      async opener(socket, later) {
        const session = await begin(ssh, socket, later);
        return async () => streamOf(ssh, await session.openChannel());
      },
      async taker(socket, take, later) {
        await begin(ssh, socket, later, ({ channel }) => take(streamOf(ssh, channel)));
      },
    };
  },
};

type OnChannel = (opening: { readonly channel: Channel }) => void;

/** Both ends trust any key: who they are is not what is measured. */
async function begin(ssh: Module, socket: Socket, later: Connections, onChannel?: OnChannel): Promise<Session> {
  const key = await ssh.SshAlgorithms.publicKey.ecdsaSha2Nistp384.generateKeyPair();
  return later.dialled ? await asClient(ssh, socket, later, key, onChannel) : await asServer(ssh, socket, later, key, onChannel);
}

async function asClient(ssh: Module, socket: Socket, later: Connections, key: object, onChannel?: OnChannel): Promise<Session> {
  const session = new ssh.SshClientSession(configurationOf(ssh));
  trustAnybody(session);
  if (onChannel) session.onChannelOpening(onChannel);
  const reconnect = async (): Promise<void> => {
    await sleep(RECONNECT_PAUSE_MS);
    await session.reconnect(new ssh.NodeStream(await later.next()));
  };
  session.onDisconnected(() => void reconnect());
  await session.connect(new ssh.NodeStream(socket));
  if (!(await session.authenticate({ username: 'bench', publicKeys: [key] }))) throw new Error('its key was refused');
  return session;
}

async function asServer(ssh: Module, socket: Socket, later: Connections, key: object, onChannel?: OnChannel): Promise<Session> {
  const reconnectable: ServerSession[] = [];
  /** One that is begun by a client that comes back hands its connection over to the one that it was. */
  const serve = async (connection: Socket, onAuthenticated?: () => void): Promise<ServerSession> => {
    const session = new ssh.SshServerSession(configurationOf(ssh), reconnectable);
    session.credentials = { publicKeys: [key] };
    trustAnybody(session);
    if (onChannel) session.onChannelOpening(onChannel);
    if (onAuthenticated) session.onClientAuthenticated(onAuthenticated);
    await session.connect(new ssh.NodeStream(connection));
    return session;
  };
  const authenticated = Promise.withResolvers<void>();
  const session = await serve(socket, authenticated.resolve);
  await authenticated.promise;
  void serveAll(later, serve);
  return session;
}

async function serveAll(later: Connections, serve: (connection: Socket) => Promise<unknown>): Promise<void> {
  for (;;) await serve(await later.next());
}

function configurationOf(ssh: Module): Configuration {
  const configuration = new ssh.SshSessionConfiguration();
  configuration.protocolExtensions.push(ssh.SshProtocolExtensionNames.sessionReconnect);
  return configuration;
}

function trustAnybody(session: Session): void {
  session.onAuthenticating((asked) => {
    asked.authenticationPromise = Promise.resolve({});
  });
}

/** Its own stream closes the channel when one direction ends, and what comes the other way is lost: here each direction has an end of its own. */
function streamOf(ssh: Module, channel: Channel): Duplex {
  const stream = new ssh.SshStream(channel);
  stream._final = callbackify(() => channel.send(Buffer.alloc(0)));
  channel.onEof(() => stream.push(null));
  return stream;
}
