/** Listens for the agent's HTTP endpoint. */
import { chmod, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import type { Hono } from 'hono';
import { FairleadError } from '../../shared/errors.ts';
import type { HttpListen } from '../config.ts';

/** A probe that sends slower than this is no probe. */
const REQUEST_TIMEOUT_MS = 10_000;

export interface HttpEndpoint extends AsyncDisposable {
  /** `http://127.0.0.1:7081` or `unix:/path`. */
  readonly address: string;
}

export async function serveHttp(app: Hono, listen: Exclude<HttpListen, 'off'>): Promise<HttpEndpoint> {
  // SAFETY: without `createServer` in its options the adaptor makes a plain HTTP/1.1 server.
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
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
