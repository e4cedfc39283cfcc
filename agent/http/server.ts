/**
 * Listens for the agent's HTTP endpoint. What answers is loaded by the first request: Hono, its adaptor and the web classes of Node that
 * they stand on weigh 6 MB, and loading them would hold up the line.
 */
import { chmod, rm } from 'node:fs/promises';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Hono } from 'hono';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { createHttpServer } from '../../shared/node/lean-http.ts';
import type { HttpListen } from '../config.ts';

/** A probe that sends slower than this is no probe. */
const REQUEST_TIMEOUT_MS = 10_000;

export interface HttpEndpoint extends AsyncDisposable {
  /** `http://127.0.0.1:7081` or `unix:/path`. */
  readonly address: string;
}

/** @param loadApp - called by the first request, and again after it failed */
export async function serveHttp(loadApp: () => Promise<Hono>, listen: Exclude<HttpListen, 'off'>): Promise<HttpEndpoint> {
  const server = createHttpServer(answeredBy(loadApp));
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  if ('path' in listen) await rm(listen.path, { force: true });
  await started(server, listen);
  if ('path' in listen) await chmod(listen.path, 0o660);
  // The endpoint alone is no reason to stay.
  server.unref();
  return {
    address: addressOf(server, listen),
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;

function answeredBy(loadApp: () => Promise<Hono>): Answer {
  let loading: Promise<Answer> | undefined;
  const load = async (): Promise<Answer> => {
    const [{ getRequestListener }, app] = await Promise.all([import('@hono/node-server'), loadApp()]);
    return getRequestListener(app.fetch);
  };
  const refuse = (error: unknown): Answer => {
    loading = undefined;
    const text = `what answers here could not be loaded: ${toFairleadError(error).message}\n`;
    return (_request, response) => response.writeHead(500).end(text);
  };
  return async (request, response) => {
    loading ??= load();
    const answer = await loading.catch(refuse);
    answer(request, response);
  };
}

function started(server: Server, listen: { host: string; port: number } | { path: string }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const where = 'path' in listen ? listen.path : `${listen.host}:${listen.port}`;
      reject(
        new FairleadError('CONFLICT', `could not listen on ${where}: ${cause.message}: set httpListen to another, or to off`, {
          cause,
        }),
      );
    });
    server.listen(listen, resolve);
  });
}

function addressOf(server: Server, listen: { host: string; port: number } | { path: string }): string {
  if ('path' in listen) return `unix:${listen.path}`;
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : listen.port;
  return `http://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${port}`;
}
