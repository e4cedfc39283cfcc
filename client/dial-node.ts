/** Dials a hub from Node: the token goes in the `authorization` header, and a refusal is told in the hub's own words. */
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import * as v from 'valibot';
import { WebSocket } from 'ws';
import { FairleadError } from '../shared/errors.ts';
import type { MessageSocket } from '../shared/line/message-socket.ts';
import { belowClient, type KernelQueue, maskOptions, WS_OPTIONS, wsSocket } from '../shared/node/ws-socket.ts';
import { type ErrorCode, isErrorCode } from '../shared/protocol/error-table.ts';
import { Refusal } from '../shared/protocol/handshake.ts';
import { SUBPROTOCOL } from '../shared/protocol/version.ts';

/** What of a refused upgrade's body is read for its message. */
const MAX_REFUSAL_BYTES = 16 * 1024;

export interface DialOptions {
  readonly url: URL;
  readonly token: string;
  /** Certificates (PEM) by which the hub is known, instead of the system's. */
  readonly ca?: string | Uint8Array | undefined;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** @throws CONNECT_FAILED when the hub cannot be reached, UNAUTHENTICATED or PERMISSION_DENIED when it refuses the token. */
export async function dialNode({ url, token, ca, timeoutMs, signal }: DialOptions): Promise<MessageSocket> {
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<MessageSocket>();
  const socket = new WebSocket(url, SUBPROTOCOL, {
    ...WS_OPTIONS,
    ...maskOptions(url),
    headers: { authorization: `Bearer ${token}` },
    handshakeTimeout: timeoutMs,
    ...(ca !== undefined && { ca: typeof ca === 'string' ? ca : Buffer.from(ca) }),
  });
  const abort = (): void => socket.terminate();
  signal?.addEventListener('abort', abort, { once: true });
  // Wrapped in the very turn of the event: what the hub says first may come in the next.
  socket.once('upgrade', ({ socket: tcp }) => {
    const below = belowClient(url, tcp);
    const kernel = unsentOf(tcp);
    socket.once('open', () => resolve(wsSocket(socket, below, kernel)));
  });
  socket.once('unexpected-response', (request: ClientRequest, response: IncomingMessage) => {
    void refusal(url, response).then((error) => {
      reject(error);
      request.destroy();
    });
  });
  socket.on('error', (error) => reject(unreachable(url, error)));
  try {
    return await promise;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** Loaded behind the line's back: it is of use once there is bulk data, and the line goes on without it. */
async function unsentOf(tcp: Socket): Promise<KernelQueue | undefined> {
  const { watchUnsent } = await import('../native/unsent.ts');
  const unsent = tcp.destroyed ? { reason: 'it is closed' } : watchUnsent(tcp);
  return 'reason' in unsent ? undefined : unsent;
}

function unreachable(url: URL, cause: Error): FairleadError {
  return new FairleadError(
    'CONNECT_FAILED',
    `could not reach the hub at ${url.host}: ${cause.message}; is it running, and is the address right?`,
    { cause },
  );
}

/** The hub's own words, where it said something. */
async function refusal(url: URL, response: IncomingMessage): Promise<FairleadError> {
  let body = '';
  for await (const chunk of response) {
    body += String(chunk);
    if (body.length > MAX_REFUSAL_BYTES) break;
  }
  const { code, message } = refusalIn(body);
  const status = response.statusCode ?? 0;
  return new FairleadError(code, `the hub at ${url.host} refused the connection with status ${status}: ${message}`);
}

function refusalIn(body: string): { code: ErrorCode; message: string } {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    json = undefined;
  }
  const parsed = v.safeParse(Refusal, json);
  if (!parsed.success) return { code: 'CONNECT_FAILED', message: 'it gave no reason; is this address a Fairlead hub?' };
  const { code, message } = parsed.output.error;
  return { code: isErrorCode(code) ? code : 'CONNECT_FAILED', message };
}
