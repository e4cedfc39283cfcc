/**
 * One attempt at a WebSocket to the hub: asks for a challenge, signs it, upgrades. Whoever is not let in learns so before the upgrade.
 *
 * On `ws:` all of it takes one connection. On `wss:` the TLS connection is made after the challenge, because the proof is bound to it
 * (RFC 9266), and then handed to `ws`.
 */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import type { HostKey } from '../../shared/node/host-key.ts';
import { HttpAgent } from '../../shared/node/lean-http.ts';
import { belowClient, type KernelQueue, maskOptions, WS_OPTIONS, wsSocket } from '../../shared/node/ws-socket.ts';
import {
  CHANNEL_BINDING_BYTES,
  CHANNEL_BINDING_LABEL,
  Challenge,
  type ConnectProof,
  connectProofBytes,
  formatAuthorization,
  type HubEndpoints,
  NONCE_BYTES,
} from '../../shared/protocol/handshake.ts';
import { SUBPROTOCOL } from '../../shared/protocol/version.ts';
import { askHub, LinkError, readBody, refusalOf, toLinkError } from './hub-http.ts';
import type { Identity } from './identity.ts';

export interface DialOptions<T> {
  readonly endpoints: HubEndpoints;
  readonly identity: Identity;
  readonly key: HostKey;
  readonly behindProxy: boolean;
  readonly ca: string | undefined;
  /** Bounds the whole attempt. */
  readonly signal: AbortSignal;
  /** Called in the very turn in which the socket opens: a message may follow in the next. */
  readonly onOpen: (messages: MessageSocket, socket: WebSocket) => T;
}

/** @throws LinkError */
export async function dial<T>(options: DialOptions<T>): Promise<T> {
  if (options.endpoints.secure) return await dialBy(options);
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
  try {
    return await dialBy(options, agent);
  } finally {
    // What was upgraded is no longer the agent's.
    agent.destroy();
  }
}

async function dialBy<T>(options: DialOptions<T>, agent?: HttpAgent): Promise<T> {
  const { endpoints, identity, key, ca, signal } = options;
  const challenge = await askHub({ url: endpoints.challenge, schema: Challenge, ca, agent, signal });
  if (challenge.hubId !== identity.hubId) {
    throw new LinkError(
      'wrong-hub',
      `${endpoints.connect.host} is not the hub that this host enrolled with (it is ${challenge.hubId}, not ${identity.hubId}): ` +
        'correct the address, or enrol here with a new token',
    );
  }
  const tls = endpoints.secure ? await connectTls(options) : undefined;
  const bound = tls !== undefined && !options.behindProxy;
  const unsigned: Omit<ConnectProof, 'signature'> = {
    host: identity.host,
    nonce: challenge.nonce,
    expiresAt: challenge.expiresAt,
    agentNonce: randomBytes(NONCE_BYTES).toString('base64url'),
    protocol: SUBPROTOCOL,
    binding: bound ? 'tls-exporter' : 'none',
  };
  const bindingBytes = bound ? exporter(tls) : new Uint8Array();
  const signature = key.sign(connectProofBytes(unsigned, { hubId: challenge.hubId, bindingBytes }));
  return upgrade({ ...unsigned, signature }, { tls, agent }, options);
}

/** What the upgrade goes over; neither for a connection of its own. */
interface Way {
  readonly tls: TLSSocket | undefined;
  readonly agent: HttpAgent | undefined;
}

async function upgrade<T>(proof: ConnectProof, { tls, agent }: Way, options: DialOptions<T>): Promise<T> {
  const { endpoints, signal, onOpen } = options;
  const url = endpoints.connect;
  if (signal.aborted) {
    tls?.destroy();
    throw toLinkError(signal.reason, url);
  }
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const socket = new WebSocket(url, [SUBPROTOCOL], {
    ...WS_OPTIONS,
    headers: { authorization: formatAuthorization(proof) },
    followRedirects: false,
    ...maskOptions(url),
    ...(tls === undefined ? {} : { createConnection: () => tls }),
    ...(agent === undefined ? {} : { agent }),
  });
  const fail = (error: unknown) => {
    signal.removeEventListener('abort', onAbort);
    reject(error);
    // Ends an attempt that is under way; what it says then is of no interest.
    socket.terminate();
  };
  const onAbort = () => fail(toLinkError(signal.reason, url));
  signal.addEventListener('abort', onAbort, { once: true });
  socket.on('error', (error) => fail(explain(error, url)));
  socket.on('unexpected-response', (_request, response) => {
    readBody(response, url).then((text) => fail(refusalOf(response, text, url)), fail);
  });
  socket.once('upgrade', ({ socket: tcp }) => {
    const kernel = unsentOf(tcp);
    socket.once('open', () => {
      signal.removeEventListener('abort', onAbort);
      resolve(onOpen(wsSocket(socket, belowClient(url, tcp), kernel), socket));
    });
  });
  return promise;
}

/** Loaded behind the line's back: it is of use once there is bulk data, and the line goes on without it. */
async function unsentOf(tcp: Socket): Promise<KernelQueue | undefined> {
  const { watchUnsent } = await import('../../native/unsent.ts');
  const unsent = tcp.destroyed ? { reason: 'it is closed' } : watchUnsent(tcp);
  return 'reason' in unsent ? undefined : unsent;
}

/** `ws` tells what is wrong with an upgrade in messages alone. */
function explain(error: Error, url: URL): LinkError {
  if (/subprotocol|Sec-WebSocket|Upgrade header|extension/i.test(error.message)) {
    return new LinkError('protocol', `${url.href} is no endpoint for agents of ${SUBPROTOCOL}: ${error.message}`, {
      cause: error,
    });
  }
  return toLinkError(error, url);
}

function connectTls<T>({ endpoints, ca, signal }: DialOptions<T>): Promise<TLSSocket> {
  const { hostname, port } = endpoints.connect;
  const host = hostname.replace(/^\[|\]$/g, '');
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const socket = tlsConnect({
    host,
    port: port === '' ? 443 : Number(port),
    // An address is no server name (RFC 6066 §3).
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.3',
    ...(ca === undefined ? {} : { ca }),
  });
  const fail = (error: unknown) => {
    signal.removeEventListener('abort', onAbort);
    socket.destroy();
    reject(toLinkError(error, endpoints.connect));
  };
  const onAbort = () => fail(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  socket.on('error', fail);
  socket.once('secureConnect', () => {
    signal.removeEventListener('abort', onAbort);
    // The listener for errors stays: none may come between here and the upgrade without one.
    resolve(socket);
  });
  return promise;
}

/** An empty context and none are the same from TLS 1.3 on (RFC 8446 §7.5). */
function exporter(socket: TLSSocket): Uint8Array {
  return socket.exportKeyingMaterial(CHANNEL_BINDING_BYTES, CHANNEL_BINDING_LABEL, Buffer.alloc(0));
}
