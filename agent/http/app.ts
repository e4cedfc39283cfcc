/**
 * Health, metrics and version of the agent, over HTTP on loopback or a unix socket, for probes and scrapers. No authentication, so
 * nothing here tells a secret or changes anything.
 *
 * `/livez` says only that the event loop turns: neither the hub nor QEMU may make a service manager restart an agent.
 */
import { Hono } from 'hono';
import { VERSION } from '../../shared/node/version.ts';
import { isLoopbackHost } from '../../shared/protocol/handshake.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import { checkReadiness, type ReadinessCheck } from './readiness.ts';

export interface MetricsSource {
  readonly contentType: string;
  render(): Promise<string>;
}

export interface AppOptions {
  readonly checks: readonly ReadinessCheck[];
  /** Made at the first scrape. */
  readonly metrics: () => Promise<MetricsSource>;
  /** False for a unix socket, which no browser reaches and whose clients send any host. */
  readonly isOnLoopback?: boolean;
}

export function createApp({ checks, metrics, isOnLoopback = true }: AppOptions): Hono {
  const app = new Hono();
  app.use(async (c, next) => {
    if (isOnLoopback && !isForUs(c.req.header('host'), c.req.header('origin'))) {
      return c.text('this endpoint is for programs of this machine: ask for 127.0.0.1 or localhost\n', 403);
    }
    return next();
  });
  app.get('/livez', (c) => c.text('ok\n'));
  // Deprecated by Kubernetes, kept for old probes.
  app.get('/healthz', (c) => c.text('ok\n'));
  app.get('/readyz', async (c) => {
    const { ok, text } = await checkReadiness(checks, c.req.queries('exclude') ?? []);
    return c.text(ok && c.req.query('verbose') === undefined ? 'ok\n' : text, ok ? 200 : 503);
  });
  app.get('/version', (c) => c.json({ version: VERSION, contractVersion: CONTRACT_VERSION, node: process.versions.node }));
  app.get('/metrics', async (c) => {
    const source = await metrics();
    return c.body(await source.render(), 200, { 'content-type': source.contentType });
  });
  app.notFound((c) => c.text('not found: try /livez /readyz /healthz /metrics /version\n', 404));
  app.onError((error, c) => c.text(`${error.message}\n`, 500));
  return app;
}

/** A web page is not: one whose name was made to lead here (DNS rebinding) gives itself away by that name. */
function isForUs(host: string | undefined, origin: string | undefined): boolean {
  return origin === undefined && (host === undefined || isLoopbackHost(host.replace(/:\d+$/, '')));
}
