/**
 * A scripted agent: a real line with a real host key, and answers that the test writes. It has no VMs and no QEMU. Each step of the
 * handshake stands alone, so that a test can do it wrong.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { HeldStreams } from '../../shared/line/held-streams.ts';
import { Line } from '../../shared/line/line.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { generateHostKey, type HostKey, sha256 } from '../../shared/node/host-key.ts';
import { WS_OPTIONS, wsSocket } from '../../shared/node/ws-socket.ts';
import {
  CHALLENGE_PATH,
  CHANNEL_BINDING_BYTES,
  CHANNEL_BINDING_LABEL,
  type ConnectProof,
  connectProofBytes,
  ENROL_PATH,
  enrolProofBytes,
  formatAuthorization,
} from '../../shared/protocol/handshake.ts';
import { CONTRACT_VERSION, SUBPROTOCOL } from '../../shared/protocol/version.ts';

export interface Refused {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly code: string;
  readonly message: string;
}

export interface Challenged {
  readonly nonce: string;
  readonly expiresAt: string;
  readonly hubId: string;
}

export interface EnrolAnswer {
  readonly status: number;
  readonly body: { readonly hubId?: string; readonly error?: { readonly code: string; readonly message: string } };
}

type Post = (path: string, body: object) => Promise<{ status: number; body: unknown }>;

export async function enrolHost(
  url: string,
  options: { host: string; key: HostKey; token: string; post?: Post },
): Promise<EnrolAnswer> {
  const { host, key, token, post = postTo(url) } = options;
  const proof = key.sign(enrolProofBytes({ publicKey: key.publicKey, tokenDigest: sha256(token), host }));
  const { status, body } = await post(ENROL_PATH, { token, host, publicKey: key.publicKey, labels: {}, proof });
  // SAFETY: a test that gets another body fails on what it looks for.
  return { status, body: body as EnrolAnswer['body'] };
}

function postTo(url: string): Post {
  return async (path, body) => {
    const headers = { 'content-type': 'application/json', connection: 'close' };
    const response = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: response.status, body: await response.json() };
  };
}

export async function askChallenge(url: string): Promise<Challenged> {
  const response = await fetch(url + CHALLENGE_PATH, { headers: { connection: 'close' } });
  // SAFETY: as above.
  return (await response.json()) as Challenged;
}

export interface ProofOptions {
  readonly host: string;
  readonly key: HostKey;
  readonly challenge: Challenged;
  /** The TLS connection to bind to. */
  readonly tls?: TLSSocket | undefined;
  readonly changes?: Partial<ConnectProof>;
}

export function makeProof({ host, key, challenge, tls, changes = {} }: ProofOptions): ConnectProof {
  const unsigned: Omit<ConnectProof, 'signature'> = {
    host,
    nonce: challenge.nonce,
    expiresAt: challenge.expiresAt,
    agentNonce: randomBytes(32).toString('base64url'),
    protocol: SUBPROTOCOL,
    binding: tls === undefined ? 'none' : 'tls-exporter',
    ...changes,
  };
  const bindingBytes =
    tls?.exportKeyingMaterial(CHANNEL_BINDING_BYTES, CHANNEL_BINDING_LABEL, Buffer.alloc(0)) ?? new Uint8Array(0);
  const signature = key.sign(connectProofBytes(unsigned, { hubId: challenge.hubId, bindingBytes }));
  return { ...unsigned, signature, ...changes };
}

export interface UpgradeRequest {
  readonly url: string;
  readonly path?: string;
  readonly authorization?: string | undefined;
  readonly origin?: string;
  readonly protocols?: string[];
  readonly tls?: TLSSocket | undefined;
}

/** The open WebSocket, made a line by `onOpen` in the turn in which it opens, or the hub's refusal. */
export async function upgrade<T>(request: UpgradeRequest, onOpen: (socket: WebSocket) => T): Promise<T | Refused> {
  const { url, path = '/agent', authorization, origin, protocols = [SUBPROTOCOL], tls } = request;
  const { promise, resolve, reject } = Promise.withResolvers<T | Refused>();
  const socket = new WebSocket(url.replace(/^http/, 'ws') + path, protocols, {
    ...WS_OPTIONS,
    headers: authorization === undefined ? {} : { authorization },
    ...(origin === undefined ? {} : { origin }),
    ...(tls === undefined ? {} : { createConnection: () => tls }),
  });
  socket.on('error', reject);
  socket.once('open', () => resolve(onOpen(socket)));
  socket.once('unexpected-response', (_request, response: IncomingMessage) => {
    readRefusal(response).then(resolve, reject);
  });
  return await promise;
}

async function readRefusal(response: IncomingMessage): Promise<Refused> {
  let text = '';
  for await (const chunk of response) text += String(chunk);
  // SAFETY: as above.
  const { error } = JSON.parse(text) as { error: { code: string; message: string } };
  return { status: response.statusCode ?? 0, headers: response.headers, ...error };
}

export async function connectTls(url: string, ca: string): Promise<TLSSocket> {
  const { hostname, port } = new URL(url);
  const socket = tlsConnect({ host: hostname, port: Number(port), ca, ALPNProtocols: ['http/1.1'], minVersion: 'TLSv1.3' });
  await once(socket, 'secureConnect');
  return socket;
}

export type Handler = (params: JsonObject, context: RequestContext) => unknown;

export interface TestAgentOptions {
  readonly url: string;
  readonly host: string;
  readonly key: HostKey;
  readonly contract?: number;
  readonly role?: 'agent' | 'operator';
  /** Answers by method; `vm.list` has none to tell of when absent. */
  readonly methods?: Readonly<Record<string, Handler>>;
  readonly onOpen?: LineHandlers['onOpen'];
  readonly onGoAway?: LineHandlers['onGoAway'];
  /** Streams that outlive the line. */
  readonly held?: HeldStreams;
}

export interface TestAgent extends AsyncDisposable {
  readonly host: string;
  readonly line: Line;
  readonly socket: WebSocket;
  /** Methods that were called, in order. */
  readonly calls: readonly string[];
}

/** Connects an enrolled host. @throws Error with the hub's refusal */
export async function connectTestAgent(options: TestAgentOptions): Promise<TestAgent> {
  const { url, host, key } = options;
  const authorization = formatAuthorization(makeProof({ host, key, challenge: await askChallenge(url) }));
  const agent = await upgrade({ url, authorization }, (socket) => agentOn(socket, options));
  if ('status' in agent) throw new Error(`refused with ${agent.status} ${agent.code}: ${agent.message}`);
  await agent.line.ready;
  return agent;
}

export function agentOn(socket: WebSocket, options: Omit<TestAgentOptions, 'url' | 'key'>): TestAgent {
  const methods: Readonly<Record<string, Handler>> = { 'vm.list': () => ({ vms: [] }), ...options.methods };
  const calls: string[] = [];
  const line: Line = new Line({
    socket: wsSocket(socket),
    role: 'dialer',
    held: options.held,
    hello: { contract: options.contract ?? CONTRACT_VERSION, software: 'fairlead-agent/0.1.0', role: options.role ?? 'agent' },
    handlers: {
      onRequest: async (method, params, context) => {
        calls.push(method);
        const handler = methods[method];
        if (handler === undefined) throw new FairleadError('METHOD_NOT_FOUND', `no ${method} in this script`);
        return await handler(params, context);
      },
      ...(options.onOpen === undefined ? {} : { onOpen: options.onOpen }),
      ...(options.onGoAway === undefined ? {} : { onGoAway: options.onGoAway }),
    },
  });
  return {
    host: options.host,
    line,
    socket,
    calls,
    [Symbol.asyncDispose]: async () => {
      line.close();
      await line.closed;
    },
  };
}

/** Enrols a new host and connects it. */
export async function addTestHost(
  hub: {
    readonly url: string;
    readonly hub: { readonly bootstrap: { enrolToken(): Promise<string> } };
    readonly logged?: (text: string) => Promise<unknown>;
  },
  host: string,
  options: Omit<TestAgentOptions, 'url' | 'host' | 'key'> = {},
): Promise<TestAgent & { readonly key: HostKey }> {
  const key = generateHostKey();
  const enrolled = await enrolHost(hub.url, { host, key, token: await hub.hub.bootstrap.enrolToken() });
  if (enrolled.status !== 200) throw new Error(`could not enrol ${host}: ${JSON.stringify(enrolled.body)}`);
  const agent = await connectTestAgent({ ...options, url: hub.url, host, key });
  // The hub's HELLO may be here before it has read the agent's.
  await hub.logged?.(`host ${host} connected`);
  return Object.assign(agent, { key });
}

/** An operator's line; `held` are streams that outlive it. @throws Error with the hub's refusal */
export async function connectTestOperator(
  url: string,
  token: string,
  held?: HeldStreams,
): Promise<{ line: Line; socket: WebSocket } & AsyncDisposable> {
  const opened = await upgrade({ url, path: '/rpc', authorization: `Bearer ${token}` }, (socket) => ({
    socket,
    line: new Line({
      socket: wsSocket(socket),
      role: 'dialer',
      held,
      hello: { contract: CONTRACT_VERSION, software: 'fairlead-cli/0.1.0', role: 'operator' },
      handlers: {
        onRequest: async (method) => {
          throw new FairleadError('METHOD_NOT_FOUND', `an operator has no ${method}`);
        },
      },
    }),
  }));
  if ('status' in opened) throw new Error(`refused with ${opened.status} ${opened.code}: ${opened.message}`);
  await opened.line.ready;
  return {
    ...opened,
    [Symbol.asyncDispose]: async () => {
      opened.line.close();
      await opened.line.closed;
    },
  };
}
