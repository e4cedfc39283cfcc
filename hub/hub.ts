/**
 * The hub, put together.
 *
 *     idle ──start()──▶ running ──stop()──▶ draining ──▶ stopped
 *        └── start() fails: everything that was opened is closed again ──▶ stopped
 *
 * Draining: `/readyz` says no, no new session is taken, every peer is asked to leave and come back within a spread; after `drainMs` what
 * is left is closed. Hosts and their VMs do not mind.
 */
import { randomBytes } from 'node:crypto';
import type { Server } from 'node:http';
import { type Clock, systemClock } from '../shared/clock.ts';
import { FairleadError } from '../shared/errors.ts';
import { ensureFirstAdmin } from './auth/first-admin.ts';
import { LoopLag } from './auth/loop-lag.ts';
import { TokenService } from './auth/tokens.ts';
import { Turns } from './auth/turns.ts';
import type { HubConfig } from './config.ts';
import { serveHealth } from './http/health-endpoint.ts';
import { createServer, type HubAddress, listen, reloadTls } from './http/server.ts';
import { Strangers } from './http/strangers.ts';
import type { HubLogger } from './logger.ts';
import { warnOfFewFiles } from './open-files.ts';
import { createService, type HubService } from './service.ts';
import { openState } from './state.ts';
import { IN_MEMORY, openStoreOf } from './store/location.ts';
import { META } from './store/records.ts';
import { getOrCreate, type Store } from './store/store.ts';

export interface Hub {
  /** @throws FairleadError CONFLICT (another hub has the data), UNSUPPORTED (newer data), CONNECT_FAILED (the address) */
  start(): Promise<void>;
  /** Idempotent. */
  stop(): Promise<void>;
  /** Takes a renewed certificate from its files. @throws FairleadError INVALID_PARAMS, and then the old one stays in use */
  reloadTls(): void;
  /** @throws FairleadError WRONG_STATE unless running */
  readonly address: HubAddress;
  /** Of the listener for probes; undefined where it is off. @throws FairleadError WRONG_STATE unless running */
  readonly healthAddress: HubAddress | undefined;
  readonly hubId: string;
  /** Tokens for whoever started the hub inside their own process. */
  readonly bootstrap: {
    /** Takes the place of the administrators' tokens of that description, so that they do not pile up with each start. */
    adminToken(description?: string): Promise<string>;
    enrolToken(options?: { readonly labels?: Readonly<Record<string, string>>; readonly maxUses?: number }): Promise<string>;
  };
}

export interface HubOptions {
  readonly logger: HubLogger;
  readonly clock?: Clock;
  /** Unix milliseconds. */
  readonly now?: () => number;
}

interface Running {
  readonly store: Store;
  readonly tokens: TokenService;
  readonly hubId: string;
  readonly service: HubService;
  readonly server: Server;
  readonly address: HubAddress;
  readonly healthAddress: HubAddress | undefined;
  /** What else ends with the hub. */
  readonly opened: DisposableStack;
}

/** Hosts that begin in one turn of the event loop. With all that follows of it, each takes about a millisecond. */
const HOSTS_A_TURN = 32;

export function createHub(config: HubConfig, options: HubOptions): Hub {
  return new EmbeddableHub(config, options);
}

class EmbeddableHub implements Hub {
  readonly #config: HubConfig;
  readonly #logger: HubLogger;
  readonly #clock: Clock;
  readonly #now: () => number;
  #running: Running | undefined;
  #stopping: Promise<void> | undefined;

  readonly bootstrap: Hub['bootstrap'] = {
    adminToken: async (description = 'embedded hub') => {
      const { tokens } = this.#require();
      await tokens.discardAdmins(description);
      return (await tokens.create({ kind: 'operator', role: 'admin', description })).token;
    },
    enrolToken: async ({ labels = {}, maxUses = 1 } = {}) => {
      const params = { kind: 'enrol', ttlMs: 3600_000, maxUses, labels, description: 'embedded hub' } as const;
      return (await this.#require().tokens.create(params)).token;
    },
  };

  constructor(config: HubConfig, options: HubOptions) {
    this.#config = config;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#now = options.now ?? Date.now;
  }

  get address(): HubAddress {
    return this.#require().address;
  }

  get healthAddress(): HubAddress | undefined {
    return this.#require().healthAddress;
  }

  get hubId(): string {
    return this.#require().hubId;
  }

  async start(): Promise<void> {
    if (this.#running !== undefined) throw new FairleadError('WRONG_STATE', 'the hub is running already');
    const store = openStoreOf(this.#config);
    try {
      this.#running = await this.#startOn(store);
    } catch (error) {
      await store.close();
      throw error;
    }
    const { address, healthAddress, hubId } = this.#running;
    warnOfFewFiles(this.#config, this.#logger);
    const tls = this.#config.tlsCert !== undefined;
    this.#logger.info({ address: address.host, port: address.port, hubId, tls }, `hub listens on ${address.url}`);
    if (healthAddress !== undefined) this.#logger.info({ address: healthAddress.url }, 'health and metrics are served');
  }

  async stop(): Promise<void> {
    if (this.#running !== undefined) this.#stopping ??= this.#stop(this.#running);
    await this.#stopping;
  }

  reloadTls(): void {
    reloadTls(this.#require().server, this.#config);
    this.#logger.info({}, 'certificate and key for TLS were read again');
  }

  async #startOn(store: Store): Promise<Running> {
    const config = this.#config;
    const hubId = await getOrCreate(store.collection(META), 'hubId', () => randomBytes(16).toString('base64url'));
    const tokens = new TokenService({
      store,
      now: this.#now,
      onRevoked: (id) => this.#running?.service.endOperatorsOf(id),
    });
    await this.#makeFirstAdmin(store, tokens);
    using scope = new DisposableStack();
    const lag = scope.use(new LoopLag(this.#clock));
    const turns = new Turns(HOSTS_A_TURN, this.#clock);
    // Those that wait for their turn wait for the hub, as those do that it has not read from yet.
    const behindMs = (): number => Math.max(lag.ms, turns.waitMs);
    const strangers = new Strangers(config.maxUnauthenticated, this.#clock, behindMs);
    const state = await openState({ store, config, logger: this.#logger, clock: this.#clock, now: this.#now });
    const service = createService({
      config,
      state,
      tokens,
      hubId,
      strangers,
      turns,
      behindMs,
      logger: this.#logger,
      clock: this.#clock,
      now: this.#now,
    });
    await service.takeUp();
    const server = createServer({
      config,
      app: service.app,
      upgrade: service.upgrade,
      strangers,
      answerChallenge: service.answerChallenge,
    });
    const health = await serveHealth({ config, app: service.health, clock: this.#clock, lagMs: behindMs });
    scope.defer(() => health?.close());
    const address = await listen(server, config.listen);
    return { store, tokens, hubId, service, server, address, healthAddress: health?.address, opened: scope.move() };
  }

  async #stop({ service, server, opened, store }: Running): Promise<void> {
    const startedMs = this.#clock.now();
    this.#logger.info({}, 'hub drains');
    await service.drain(this.#config.drainMs);
    const leftMs = Math.max(0, this.#config.drainMs - (this.#clock.now() - startedMs));
    const { promise, resolve } = Promise.withResolvers<void>();
    server.close(() => resolve());
    server.closeIdleConnections();
    const timer = this.#clock.setTimeout(() => server.closeAllConnections(), leftMs);
    await promise;
    timer.cancel();
    opened.dispose();
    await store.close();
    this.#running = undefined;
    this.#logger.info({}, 'hub stopped');
  }

  async #makeFirstAdmin(store: Store, tokens: TokenService): Promise<void> {
    const { dataDir } = this.#config;
    if (dataDir === IN_MEMORY) return;
    const path = await ensureFirstAdmin(store, tokens, dataDir);
    if (path !== undefined) this.#logger.info({ path }, `the first administrator's token is in ${path}`);
  }

  #require(): Running {
    if (this.#running === undefined) throw new FairleadError('WRONG_STATE', 'the hub does not run');
    return this.#running;
  }
}
