/** The listener of probes and scrapers alone, always without TLS: they need trust no certificate, and nothing that is told there is a secret. */
import { createServer } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Clock } from '../../shared/clock.ts';
import type { HubConfig } from '../config.ts';
import type { HealthApp } from './health.ts';
import { type HubAddress, limitsOf, listen } from './server.ts';
import { Strangers } from './strangers.ts';

/** Connections at once. Whoever only holds them open keeps no probe out (strangers.ts). */
const MAX_PROBES = 256;

export interface HealthEndpoint {
  readonly address: HubAddress;
  /** Cuts those that are connected. */
  close(): void;
}

export interface HealthEndpointOptions {
  readonly config: HubConfig;
  readonly app: HealthApp;
  readonly clock: Clock;
  /** How far the hub is behind, in milliseconds. */
  readonly lagMs: () => number;
}

/** Undefined where it is off. @throws FairleadError CONNECT_FAILED */
export async function serveHealth({ config, app, clock, lagMs }: HealthEndpointOptions): Promise<HealthEndpoint | undefined> {
  if (config.healthListen === 'off') return undefined;
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer(limitsOf(config), (request, response) => void listener(request, response));
  const strangers = new Strangers(MAX_PROBES, clock, lagMs);
  server.on('connection', (socket) => strangers.add(socket));
  return {
    address: await listen(server, config.healthListen),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
