/** The listening socket of agents and operators: plain or TLS, with the time limits that a slow or silent client runs into. */
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer, Server as HttpsServer } from 'node:https';
import { getRequestListener, type HttpBindings } from '@hono/node-server';
import type { Hono } from 'hono';
import { FairleadError } from '../../shared/errors.ts';
import { parseAddress } from '../../shared/settings.ts';
import type { HubConfig } from '../config.ts';
import type { UpgradeHandler } from '../sessions/upgrade.ts';
import type { AnswerChallenge } from './challenge.ts';
import type { Strangers } from './strangers.ts';

/** Bytes of a request's header; a proof is about 700. */
const MAX_HEADER_BYTES = 16 * 1024;
/** A connection that waits for its next request. */
const KEEP_ALIVE_MS = 5000;
/** Time for a whole request, body included, on top of that for its header. */
const BODY_TIMEOUT_MS = 20_000;
const MAX_CHECK_INTERVAL_MS = 1000;
const LISTEN_BACKLOG = 4096;

export interface HubAddress {
  readonly host: string;
  readonly port: number;
  /** For people and programs on this machine: `http://127.0.0.1:7080`. */
  readonly url: string;
}

export interface ServerParts {
  readonly config: HubConfig;
  readonly app: Hono<{ Bindings: HttpBindings }>;
  readonly upgrade: UpgradeHandler;
  readonly strangers: Strangers;
  readonly answerChallenge: AnswerChallenge;
}

export function createServer({ config, app, upgrade, strangers, answerChallenge }: ServerParts): Server {
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const onRequest: RequestListener = (request, response) => {
    if (!answerChallenge(request, response)) void listener(request, response);
  };
  const options = limitsOf(config);
  const { tlsCert, tlsKey, handshakeTimeoutMs } = config;
  const server =
    tlsCert === undefined || tlsKey === undefined
      ? createHttpServer(options, onRequest)
      : createHttpsServer(
          {
            ...options,
            ...secureContext(tlsCert, tlsKey),
            ALPNProtocols: ['http/1.1'],
            handshakeTimeout: handshakeTimeoutMs,
          },
          onRequest,
        );
  server.on('connection', (socket) => strangers.add(socket));
  server.on('upgrade', (request, socket, head) => upgrade.handle(request, socket, head));
  return server;
}

/**
 * Takes the certificate and key from their files again, for connections from now on; those that are open stay.
 *
 * @throws FairleadError INVALID_PARAMS when they cannot be read or do not fit; the old ones stay in use
 */
export function reloadTls(server: Server, { tlsCert, tlsKey }: HubConfig): void {
  if (!(server instanceof HttpsServer) || tlsCert === undefined || tlsKey === undefined) return;
  try {
    server.setSecureContext(secureContext(tlsCert, tlsKey));
  } catch (cause) {
    throw new FairleadError('INVALID_PARAMS', `could not take ${tlsCert} and ${tlsKey} for TLS: ${String(cause)}`, { cause });
  }
}

/** @throws FairleadError CONNECT_FAILED */
export async function listen(server: Server, address: string): Promise<HubAddress> {
  const { host, port } = parseAddress(address) ?? { host: address, port: 0 };
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host, port, backlog: LISTEN_BACKLOG }, resolve);
  try {
    await promise;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('CONNECT_FAILED', `could not listen on ${address}: ${reason}`, { cause });
  }
  server.removeListener('error', reject);
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new FairleadError('INTERNAL', `${address} is no TCP address`);
  return { host: bound.address, port: bound.port, url: urlOf(server, bound.address, bound.port) };
}

function urlOf(server: Server, host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host;
  return `${server instanceof HttpsServer ? 'https' : 'http'}://${reachable}:${port}`;
}

/** Of each request, on whichever listener. */
export function limitsOf({ handshakeTimeoutMs }: HubConfig) {
  return {
    headersTimeout: handshakeTimeoutMs,
    requestTimeout: handshakeTimeoutMs + BODY_TIMEOUT_MS,
    connectionsCheckingInterval: Math.min(MAX_CHECK_INTERVAL_MS, handshakeTimeoutMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    noDelay: true,
  };
}

function secureContext(tlsCert: string, tlsKey: string) {
  // Channel binding by exporter is unambiguous from 1.3 on only (RFC 9266 §4.2).
  return { cert: readPem(tlsCert), key: readPem(tlsKey), minVersion: 'TLSv1.3' } as const;
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('INVALID_PARAMS', `could not read ${path} for TLS: ${reason}`, { cause });
  }
}
