/**
 * A hub for tests of the agent: the real handshake and a real Line on a real server, and a place to put each fault a hub may have.
 * What it checks it checks as a hub must: a wrong signature is not let in.
 */
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { type WebSocket, WebSocketServer } from 'ws';
import type { JsonObject } from '../../shared/errors.ts';
import { Line } from '../../shared/line/line.ts';
import type { LineOptions } from '../../shared/line/types.ts';
import { sha256, verifySignature } from '../../shared/node/host-key.ts';
import { WS_OPTIONS, wsSocket } from '../../shared/node/ws-socket.ts';
import {
  CHALLENGE_PATH,
  CHANNEL_BINDING_BYTES,
  CHANNEL_BINDING_LABEL,
  connectProofBytes,
  ENROL_PATH,
  type EnrolRequest,
  enrolProofBytes,
  NONCE_BYTES,
  parseAuthorization,
} from '../../shared/protocol/handshake.ts';
import { CONTRACT_VERSION, SUBPROTOCOL } from '../../shared/protocol/version.ts';

export interface FakeHubOptions {
  readonly hubId?: string;
  /** Tokens that enrol; each may be used once. */
  readonly tokens?: readonly string[];
  readonly tls?: { readonly key: string; readonly cert: string };
  readonly port?: number;
  readonly limits?: LineOptions['limits'];
  /** Instead of the 101: answers the upgrade by itself and returns true. */
  readonly onUpgrade?: (request: IncomingMessage, socket: Socket) => boolean;
  /** Instead of a Line on the WebSocket. */
  readonly onSocket?: (socket: WebSocket) => void;
  readonly onRequest?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

interface HubEvents {
  line: [Line];
  enrolled: [EnrolRequest];
  notification: [string, JsonObject];
  upgrade: [IncomingMessage];
}

export class FakeHub extends EventEmitter<HubEvents> implements AsyncDisposable {
  readonly hubId: string;
  readonly keys = new Map<string, string>();
  readonly #options: FakeHubOptions;
  readonly #tokens: Set<string>;
  readonly #server: Server;
  readonly #webSockets = new WebSocketServer({ ...WS_OPTIONS, noServer: true });
  readonly #sockets = new Set<Socket>();
  readonly #nonces = new Set<string>();

  private constructor(options: FakeHubOptions) {
    super();
    this.#options = options;
    this.hubId = options.hubId ?? 'hub-1';
    this.#tokens = new Set(options.tokens ?? ['token-1']);
    const onRequest = (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response);
    this.#server = options.tls === undefined ? createHttpServer(onRequest) : createHttpsServer(options.tls, onRequest);
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => this.#upgrade(request, socket, head));
  }

  static async start(options: FakeHubOptions = {}): Promise<FakeHub> {
    const hub = new FakeHub(options);
    hub.#server.listen(options.port ?? 0, '127.0.0.1');
    await once(hub.#server, 'listening');
    return hub;
  }

  get port(): number {
    // SAFETY: listens on TCP.
    return (this.#server.address() as AddressInfo).port;
  }

  get address(): string {
    return `${this.#options.tls === undefined ? 'ws' : 'wss'}://127.0.0.1:${this.port}`;
  }

  async nextLine(): Promise<Line> {
    const [line] = await once(this, 'line');
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#options.onRequest?.(request, response) === true) return;
    if (request.url === CHALLENGE_PATH) {
      const nonce = randomBytes(NONCE_BYTES).toString('base64url');
      this.#nonces.add(nonce);
      const expiresAt = new Date(Date.now() + 30_000).toISOString();
      return reply(response, 200, { nonce, hubId: this.hubId, expiresAt });
    }
    if (request.url !== ENROL_PATH) return reply(response, 404, { error: { code: 'NOT_FOUND', message: 'no such page' } });
    let text = '';
    for await (const chunk of request) text += String(chunk);
    // SAFETY: the agent's own request; what is wrong in it fails the test.
    const body = JSON.parse(text) as EnrolRequest;
    const { publicKey, host } = body;
    const signed = enrolProofBytes({ publicKey, tokenDigest: sha256(body.token), host });
    // As the hub does: an agent whose answer was late or lost asks once more, and its token is used up by then.
    const isRepeat = this.keys.get(host) === publicKey;
    if (!(isRepeat || this.#tokens.delete(body.token)) || !verifySignature(publicKey, signed, body.proof)) {
      return reply(response, 401, { error: { code: 'UNAUTHENTICATED', message: 'the token is unknown or used up' } });
    }
    this.keys.set(host, publicKey);
    this.emit('enrolled', body);
    return reply(response, 200, { host, hubId: this.hubId });
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    this.emit('upgrade', request);
    if (this.#options.onUpgrade?.(request, socket) === true) return;
    if (!this.#isProven(request, socket)) {
      const body = JSON.stringify({ error: { code: 'UNAUTHENTICATED', message: 'the proof is wrong' } });
      socket.end(`HTTP/1.1 401 Unauthorized\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`);
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      if (this.#options.onSocket !== undefined) return this.#options.onSocket(webSocket);
      const { limits } = this.#options;
      const line = new Line({
        socket: wsSocket(webSocket),
        role: 'acceptor',
        hello: { contract: CONTRACT_VERSION, software: 'fake-hub', role: 'hub' },
        handlers: {
          onRequest: (method) => Promise.reject(new Error(`agents call nothing, ${method} neither`)),
          onNotification: (method, params) => this.emit('notification', method, params),
        },
        ...(limits === undefined ? {} : { limits }),
      });
      line.ready.then(
        () => this.emit('line', line),
        () => {},
      );
    });
  }

  #isProven(request: IncomingMessage, socket: Socket): boolean {
    const proof = parseAuthorization(request.headers.authorization);
    if (proof === undefined || !this.#nonces.delete(proof.nonce)) return false;
    if (request.headers['sec-websocket-protocol'] !== SUBPROTOCOL) return false;
    const key = this.keys.get(proof.host);
    const isTls = socket instanceof TLSSocket;
    if (key === undefined || (proof.binding === 'tls-exporter') !== isTls) return false;
    const bindingBytes = isTls
      ? socket.exportKeyingMaterial(CHANNEL_BINDING_BYTES, CHANNEL_BINDING_LABEL, Buffer.alloc(0))
      : new Uint8Array();
    const { signature, ...signed } = proof;
    return verifySignature(key, connectProofBytes(signed, { hubId: this.hubId, bindingBytes }), signature);
  }
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(body));
}
