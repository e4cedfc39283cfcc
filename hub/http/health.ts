/**
 * What probes and scrapers ask: `/livez` says that the event loop turns and nothing else; `/readyz` says whether to send traffic here;
 * `/metrics`, `/version`. No answer names a host or a VM, and nothing here changes anything.
 *
 * It is served beside everything else, and on a listener of its own (`healthListen`). There a probe does not stand in the one queue of
 * connections in which a whole fleet waits when it comes back at once: the kernel drops who comes to a full queue, probe or host, and they
 * come again by TCP's own waits of 1, 3 and 7 s.
 */
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { VERSION } from '../../shared/node/version.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { HubMetrics } from './metrics.ts';

export interface HealthCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly reason?: string;
}

export interface HealthServices {
  readonly hubId: string;
  readonly metrics: HubMetrics;
  readiness(): readonly HealthCheck[];
}

export type HealthApp = Hono<{ Bindings: HttpBindings }>;

export function createHealthApp({ hubId, metrics, readiness }: HealthServices): HealthApp {
  const app: HealthApp = new Hono();
  const alive = (context: Context) => context.text('ok\n');
  app.get('/livez', alive);
  app.get('/healthz', alive);
  app.get('/readyz', (context) => readyz(context, readiness()));
  app.get('/version', (context) => context.json({ version: VERSION, contractVersion: CONTRACT_VERSION, hubId }));
  app.get('/metrics', async (context) => {
    const { text, contentType } = await metrics.render();
    return context.body(text, 200, { 'content-type': contentType });
  });
  return app;
}

function readyz(context: Context, checks: readonly HealthCheck[]) {
  const excluded = new Set(context.req.queries('exclude') ?? []);
  const counted = checks.filter((check) => !excluded.has(check.name));
  const ok = counted.every((check) => check.ok);
  const lines = counted.map(({ name, ok, reason }) => (ok ? `[+]${name} ok` : `[-]${name} failed: ${reason ?? 'unknown'}`));
  const isVerbose = context.req.query('verbose') !== undefined || !ok;
  return context.text(`${[...(isVerbose ? lines : []), ok ? 'ok' : 'not ready'].join('\n')}\n`, ok ? 200 : 503);
}
