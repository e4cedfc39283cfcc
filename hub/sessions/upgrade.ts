/**
 * The way to a WebSocket: who it is and whether there is room is settled before the 101, so that a stranger never gets a session.
 *
 *     /agent   no Origin, a fresh proof of an enrolled host's key          → AgentSession
 *     /rpc     a token of an operator; an Origin only if it is allowed     → OperatorSession
 *
 * A refusal is an ordinary HTTP answer with a reason (handshake.ts, `Refusal`), a count and a log line.
 */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { FairleadError } from '../../shared/errors.ts';
import { WS_OPTIONS } from '../../shared/node/ws-socket.ts';
import { AGENT_PATH } from '../../shared/protocol/handshake.ts';
import { SUBPROTOCOL } from '../../shared/protocol/version.ts';
import type { Principal } from '../auth/principal.ts';
import { HandshakeRefused, refusalBody, refusalHeaders, toRefusal } from '../auth/refused.ts';
import { remoteAddress } from '../http/address.ts';
import type { HubMetrics } from '../http/metrics.ts';
import type { HubLogger } from '../logger.ts';
import type { HostState } from '../store/records.ts';

export const OPERATOR_PATH = '/rpc';
/** Time for a refused client to take its answer. */
const REFUSAL_LINGER_MS = 5000;

export interface UpgradeOptions {
  readonly behindProxy: boolean;
  readonly metrics: HubMetrics;
  readonly logger: HubLogger;
  /** The hub shuts down and takes no new session. */
  draining(): boolean;
  /** Takes one handshake of that address. @throws HandshakeRefused */
  admit(address: string): void;
  /** Takes a handshake only of one without a challenge of ours. @throws HandshakeRefused */
  authenticateAgent(request: IncomingMessage, address: string): Promise<HostState>;
  /** @throws HandshakeRefused, FairleadError UNAUTHENTICATED */
  authenticateOperator(request: IncomingMessage): Promise<Principal>;
  /** The connection is somebody's now and no longer counts as a stranger's. */
  onAuthenticated(socket: Socket): void;
  /** Must make the session in this very turn: a message may come in the next. `tcp` is the connection below. */
  onAgent(host: HostState, socket: WebSocket, tcp: Socket, address: string): void;
  onOperator(principal: Principal, socket: WebSocket, tcp: Socket, address: string): void;
}

export class UpgradeHandler {
  readonly #options: UpgradeOptions;
  readonly #server = new WebSocketServer({
    ...WS_OPTIONS,
    noServer: true,
    clientTracking: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  });

  constructor(options: UpgradeOptions) {
    this.#options = options;
  }

  /** Bottom half: never throws and never rejects. */
  handle(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    void this.#handle(request, socket, head);
  }

  async #handle(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { metrics, logger, behindProxy } = this.#options;
    const address = remoteAddress(request, behindProxy);
    const path = pathOf(request);
    try {
      const accept = await this.#authenticate(path, request, address);
      if (socket.destroyed) return;
      this.#options.onAuthenticated(request.socket);
      this.#server.handleUpgrade(request, socket, head, accept);
    } catch (thrown) {
      const refusal = toRefusal(thrown);
      const fields = { path, address, code: refusal.code, reason: refusal.reason };
      if (refusal.reason === 'fault') logger.error({ ...fields, err: refusal.cause }, 'could not answer an upgrade');
      // What is over the rate is counted, and logged only on wish: it would be the stranger who says how much.
      else if (refusal.reason === 'rate') logger.debug(fields, `upgrade to ${path} refused: ${refusal.message}`);
      else logger.warn(fields, `upgrade to ${path} refused: ${refusal.message}`);
      metrics.handshakeRefused(path === AGENT_PATH ? 'agent' : 'rpc', refusal.reason);
      writeRefusal(socket, refusal);
    }
  }

  async #authenticate(path: string, request: IncomingMessage, address: string): Promise<(socket: WebSocket) => void> {
    const options = this.#options;
    if (path !== AGENT_PATH && path !== OPERATOR_PATH) throw new FairleadError('NOT_FOUND', `no WebSocket at ${path}`);
    if (options.draining()) {
      const message = 'the hub is shutting down; try again later';
      throw new HandshakeRefused('LIMIT_EXCEEDED', 'draining', message, { status: 503, retryAfterMs: 1000 });
    }
    if (path === AGENT_PATH) {
      if (!offersSubprotocol(request)) options.admit(address);
      requireSubprotocol(request);
      const host = await options.authenticateAgent(request, address);
      return (socket) => options.onAgent(host, socket, request.socket, address);
    }
    options.admit(address);
    requireSubprotocol(request);
    const principal = await options.authenticateOperator(request);
    return (socket) => options.onOperator(principal, socket, request.socket, address);
  }
}

function offersSubprotocol(request: IncomingMessage): boolean {
  return (request.headers['sec-websocket-protocol'] ?? '').split(',').some((name) => name.trim() === SUBPROTOCOL);
}

function requireSubprotocol(request: IncomingMessage): void {
  if (offersSubprotocol(request)) return;
  throw new HandshakeRefused('PROTOCOL_ERROR', 'sub-protocol', `this hub speaks sub-protocol ${SUBPROTOCOL} only`, {
    status: 426,
  });
}

/** Path of the request, cut to what is fit for a log. */
function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0]?.slice(0, 100) ?? '';
}

function writeRefusal(socket: Duplex, refusal: HandshakeRefused): void {
  const body = JSON.stringify(refusalBody(refusal));
  const headers = {
    connection: 'close',
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...(refusal.status === 426 ? { upgrade: 'websocket', 'sec-websocket-protocol': SUBPROTOCOL } : {}),
    ...refusalHeaders(refusal),
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const linger = setTimeout(() => socket.destroy(), REFUSAL_LINGER_MS);
  socket.once('close', () => clearTimeout(linger));
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status] ?? 'Refused'}\r\n${lines.join('')}\r\n${body}`);
}
