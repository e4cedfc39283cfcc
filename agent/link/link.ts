/**
 * Keeps one line to the hub for as long as the agent runs.
 *
 *             no identity yet, or a new token
 *               ┌───────► enrolling ──┐
 *     idle ─► ──┤                     ▼                 closed
 *               └─────────────► dialling ──────► up ───────────┐
 *                   ▲               │ failed                   │
 *                   └── backoff ◄───┴──────────────────────────┘
 *     any ── stop ─► stopped
 *
 * Waits are random and grow up to `maxBackoff` (shared/backoff.ts); the first is short where streams wait for a line that dropped. A hub
 * that says when to come (Retry-After, the spread of a GOAWAY) is taken at its word; one that refuses this host again and again is asked
 * only about once a minute. The loop never ends by itself: nothing that a hub does or sends stops the agent. Streams outlive a line that
 * breaks (shared/line/held-streams.ts).
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WebSocket } from 'ws';
import { Backoff } from '../../shared/backoff.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { HeldStreams } from '../../shared/line/held-streams.ts';
import { Line } from '../../shared/line/line.ts';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import type { GoAway, LineClosed, LineLimits } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import type { MuxSession } from '../../shared/mux/session.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { type HostKey, sha256 } from '../../shared/node/host-key.ts';
import { VERSION } from '../../shared/node/version.ts';
import { type HubEndpoints, hubEndpoints } from '../../shared/protocol/handshake.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { Logger } from '../vm/api.ts';
import { dial } from './dial.ts';
import { enrol, readToken } from './enrol.ts';
import { LinkError, type LinkFailure, MAX_RETRY_AFTER_MS } from './hub-http.ts';
import { type Identity, IdentityStore } from './identity.ts';

/** Streams of the hub at once: as many windows of the smallest size as the memory of a session is good for. The hub and `maxStreamsPerVm` say less. */
const MAX_STREAMS = 4096;

export type LinkState = 'idle' | 'enrolling' | 'dialling' | 'up' | 'backoff' | 'stopped';

/** How an attempt ended; `lost` is a line that was up. */
export type ConnectResult = 'ok' | LinkFailure;

export interface LinkStatus {
  readonly state: LinkState;
  readonly hub: string;
  /** Name at the hub, once enrolled. */
  readonly host: string | undefined;
  /** Why the last line or attempt ended; undefined while up. */
  readonly lastError: string | undefined;
  /** Until the next attempt, in `backoff`. */
  readonly retryInMs: number | undefined;
  readonly rttMs: number | undefined;
}

/** Who answers the hub. Nothing of it may throw but `onRequest`, whose error goes to the caller. */
export interface LinkService {
  onRequest(method: string, params: JsonObject, context: RequestContext): Promise<unknown>;
  onOpen(stream: RawStream, meta: JsonObject, session: MuxSession): void;
}

export interface LinkConfig {
  readonly hub: string;
  readonly host: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly stateDir: string;
  readonly token?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly caFile?: string | undefined;
  readonly behindProxy: boolean;
  /** Milliseconds, as are those below. */
  readonly dialTimeout: number;
  readonly maxBackoff: number;
}

/** What is between the host and its hub, where that is only played (agent/sim/). */
export interface PlayedNetwork {
  /** Before each attempt. @throws LinkError where there is no way to the hub */
  requireWay(): void;
  /** A line begins on that WebSocket. */
  opened(socket: WebSocket): void;
}

export interface LinkOptions {
  readonly config: LinkConfig;
  readonly service: LinkService;
  readonly logger: Logger;
  readonly onState?: ((status: LinkStatus) => void) | undefined;
  readonly onAttempt?: ((result: ConnectResult) => void) | undefined;
  readonly network?: PlayedNetwork | undefined;
  /** For tests. */
  readonly lineLimits?: Partial<LineLimits> | undefined;
  readonly random?: (() => number) | undefined;
}

/** How a line ends that dropped without a word (shared/line/close-codes.ts). */
const DROPPED = 1006;
/** From so many refusals in a row on, the hub is left alone for half a minute and more. The first may be a challenge that got old. */
const REFUSALS_TO_SLOW_DOWN = 2;
const SLOW_RETRY_MS = 30_000;
/** Spread on top of a Retry-After, which everybody got alike. */
const RETRY_SPREAD_MS = 1_000;
/** How often a line that is about to end is looked at. */
const DRAIN_LOOK_MS = 50;

export class Link {
  readonly #options: LinkOptions;
  readonly #endpoints: HubEndpoints;
  readonly #identities: IdentityStore;
  readonly #backoff: Backoff;
  readonly #stopping = new AbortController();
  #state: LinkState = 'idle';
  #identity: Identity | undefined;
  #line: Line | undefined;
  #lastError: string | undefined;
  #retryAt: number | undefined;
  #refusals = 0;
  /** Since when there has been no line, on the monotonic clock. */
  #awaySince = performance.now();
  #goAway: GoAway | undefined;
  /** Streams outlive the line. */
  readonly #held = new HeldStreams();
  #running: Promise<void> | undefined;

  constructor(options: LinkOptions) {
    const { config } = options;
    const endpoints = hubEndpoints(config.hub);
    if (endpoints === undefined) throw new FairleadError('INVALID_PARAMS', `${config.hub} is no address of a hub`);
    this.#options = options;
    this.#endpoints = endpoints;
    this.#identities = new IdentityStore(config.stateDir);
    this.#backoff = new Backoff({
      baseMs: Math.min(500, config.maxBackoff),
      maxMs: config.maxBackoff,
      ...(options.random === undefined ? {} : { random: options.random }),
    });
  }

  get status(): LinkStatus {
    return {
      state: this.#state,
      hub: this.#endpoints.connect.host,
      host: this.#identity?.host,
      lastError: this.#lastError,
      retryInMs: this.#retryAt === undefined ? undefined : Math.max(0, Math.round(this.#retryAt - performance.now())),
      rttMs: this.#line?.rttMs,
    };
  }

  /** Tells the hub something while the line is up; otherwise drops it, since the hub asks for all when the line comes back. */
  notify(method: string, params: JsonObject): void {
    if (this.#state !== 'up') return;
    try {
      this.#line?.peer.notify(method, params);
    } catch (error) {
      this.#options.logger.warn({ method, err: String(error) }, 'notification was not sent');
    }
  }

  /** A stream that ends at the hub, and with this line. @throws FairleadError INTERRUPTED without a line, and what the hub refuses it with */
  async openStream(meta: JsonObject, signal: AbortSignal): Promise<MuxChannel> {
    const line = this.#line;
    if (line === undefined || this.#state !== 'up')
      throw new FairleadError('INTERRUPTED', 'there is no line to the hub at present');
    const channel = await MuxChannel.open(line.mux, meta, { signal });
    void line.closed.then(() => channel.reset(RESET_CODES.SESSION_LOST, 'its line is gone'));
    return channel;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Tells the hub that it leaves, lets what is under way end for at most `drainMs`, and closes. */
  async stop(drainMs: number): Promise<void> {
    if (this.#stopping.signal.aborted) return this.#running;
    const line = this.#line;
    if (line !== undefined && this.#state === 'up') {
      line.goAway({ drainMs, spreadMs: 0, reason: 'the agent is stopping' });
      await this.#drained(line, drainMs);
    }
    this.#stopping.abort(new FairleadError('CANCELLED', 'the agent is stopping'));
    line?.close(1000, 'the agent is stopping');
    await this.#running;
    this.#held[Symbol.dispose]();
    this.#enter('stopped');
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const waitMs = await this.#session();
      if (signal.aborted) return;
      this.#retryAt = performance.now() + waitMs;
      this.#enter('backoff');
      await sleep(waitMs, undefined, { signal }).catch(() => {});
      this.#retryAt = undefined;
    }
  }

  /** One attempt and the line that comes of it. Says how long to wait before the next. Never throws. */
  async #session(): Promise<number> {
    try {
      const line = await this.#connect();
      this.#refusals = 0;
      this.#lastError = undefined;
      this.#options.onAttempt?.('ok');
      const upAt = performance.now();
      this.#enter('up');
      const closed = await line.closed;
      return this.#lost(closed, performance.now() - upAt);
    } catch (error) {
      return this.#failed(error instanceof LinkError ? error : new LinkError('local', messageOf(error), { cause: error }));
    } finally {
      this.#line = undefined;
    }
  }

  async #connect(): Promise<Line> {
    const { config, network } = this.#options;
    network?.requireWay();
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(config.dialTimeout)]);
    const ca = config.caFile === undefined ? undefined : await readFile(config.caFile, 'utf8');
    const key = await this.#identities.key();
    this.#identity ??= await this.#identities.load();
    const identity = await this.#enrolled({ key, ca, signal });
    this.#enter('dialling');
    const { behindProxy } = config;
    const onOpen = (messages: MessageSocket, socket: WebSocket) => this.#openLine(messages, socket);
    const line = await dial({ endpoints: this.#endpoints, identity, key, behindProxy, ca, signal, onOpen });
    this.#line = line;
    const hello = await line.ready.catch(async (error: unknown) => {
      // How the line ended says more than that it did.
      const { error: reason } = await line.closed;
      throw new LinkError(
        'protocol',
        `the hub at ${this.#endpoints.connect.host} did not begin the line: ${messageOf(reason ?? error)}`,
      );
    });
    this.#options.logger.info(
      { hub: this.#endpoints.connect.host, software: hello.software, enrolledAs: identity.host },
      'line is up',
    );
    return line;
  }

  async #enrolled(options: { key: HostKey; ca: string | undefined; signal: AbortSignal }): Promise<Identity> {
    const { config, logger } = this.#options;
    const token = await readToken(config);
    const known = this.#identity;
    if (known !== undefined && (token === undefined || sha256(token).toString('base64url') === known.tokenDigest)) return known;
    if (token === undefined) {
      throw new LinkError(
        'refused',
        'this host is not enrolled and has no token: make one at the hub and start the agent with it',
      );
    }
    this.#enter('enrolling');
    const { host, labels } = config;
    const identity = await enrol({ ...options, endpoints: this.#endpoints, token, host, labels });
    await this.#identities.save(identity);
    this.#identity = identity;
    logger.info({ enrolledAs: identity.host, hubId: identity.hubId }, 'host is enrolled');
    return identity;
  }

  #openLine(messages: MessageSocket, socket: WebSocket): Line {
    const { service, logger, lineLimits, network } = this.#options;
    this.#goAway = undefined;
    network?.opened(socket);
    const line: Line = new Line({
      socket: messages,
      role: 'dialer',
      held: this.#held,
      hello: { contract: CONTRACT_VERSION, software: `fairlead/${VERSION}`, role: 'agent' },
      handlers: {
        onRequest: (method, params, context) => service.onRequest(method, params, context),
        onOpen: (stream, meta) => service.onOpen(stream, meta, line.mux),
        onGoAway: (goAway) => void this.#leave(line, goAway),
      },
      limits: { mux: { maxStreams: MAX_STREAMS }, ...lineLimits },
      logger,
    });
    return line;
  }

  /** The hub wants this line to end: nothing is cut that can end by itself within its time. */
  async #leave(line: Line, goAway: GoAway): Promise<void> {
    const { drainMs, spreadMs, reason } = goAway;
    this.#options.logger.info({ drainMs, spreadMs, reason }, 'hub asks to leave');
    this.#goAway = { ...goAway, spreadMs: Math.min(spreadMs, MAX_RETRY_AFTER_MS) };
    await this.#drained(line, drainMs);
    // It comes back, and its streams with it.
    line.close(1001, 'asked to leave');
  }

  /** Settles when no call and no stream is open on the line any more, or the time is over. */
  async #drained(line: Line, drainMs: number): Promise<void> {
    const until = performance.now() + drainMs;
    const isBusy = () => line.peer.inFlightCount > 0 || line.mux.streamCount > 0;
    const closed = line.closed.then(() => true);
    while (isBusy()) {
      const leftMs = Math.min(DRAIN_LOOK_MS, until - performance.now());
      if (leftMs <= 0 || (await Promise.race([closed, sleep(leftMs, false)]))) return;
    }
  }

  #lost(closed: LineClosed, upMs: number): number {
    const { logger } = this.#options;
    const why = closed.error?.message ?? `closed with ${closed.code}${closed.reason === '' ? '' : ` (${closed.reason})`}`;
    this.#lastError = `the line was lost: ${why}`;
    const goAway = this.#goAway;
    this.#awaySince = performance.now();
    // Nobody hurries back to a hub that closed the line itself, which may be leaving, and no host does that carries no stream.
    const isMissed = closed.code === DROPPED && this.#held.isWaiting;
    const waitMs = goAway === undefined ? this.#backoff.lost(upMs, isMissed) : this.#backoff.told(0, goAway.spreadMs);
    if (!this.#stopping.signal.aborted) {
      logger.warn({ upMs: Math.round(upMs), retryInMs: Math.round(waitMs), code: closed.error?.code, why }, 'line was lost');
    }
    return waitMs;
  }

  #failed(error: LinkError): number {
    const { onAttempt, logger } = this.#options;
    if (this.#stopping.signal.aborted) return 0;
    this.#lastError = error.message;
    this.#refusals = error.kind === 'refused' || error.kind === 'wrong-hub' ? this.#refusals + 1 : 0;
    const waitMs = this.#waitAfter(error);
    onAttempt?.(error.kind);
    const fields = { result: error.kind, retryInMs: Math.round(waitMs) };
    // A hub that is away is daily life; everything else wants somebody to do something.
    if (error.kind === 'unreachable' || error.kind === 'busy') logger.warn(fields, error.message);
    else logger.error(fields, error.message);
    return waitMs;
  }

  #waitAfter({ retryAfterMs }: LinkError): number {
    if (retryAfterMs !== undefined) return this.#backoff.told(retryAfterMs, RETRY_SPREAD_MS);
    const ownMs = this.#backoff.failed(0, performance.now() - this.#awaySince);
    if (this.#refusals < REFUSALS_TO_SLOW_DOWN) return ownMs;
    const floorMs = Math.min(SLOW_RETRY_MS, this.#backoff.maxMs);
    return this.#backoff.told(floorMs, floorMs);
  }

  #enter(state: LinkState): void {
    if (state === this.#state) return;
    this.#options.logger.debug({ from: this.#state, to: state }, 'link state');
    this.#state = state;
    this.#options.onState?.(this.status);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
