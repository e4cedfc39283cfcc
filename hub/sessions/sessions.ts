/** All sessions of the hub: made when an upgrade was accepted, counted, ended together when the hub drains. */
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { type Unsent, watchUnsent } from '../../native/unsent.ts';
import type { JsonObject } from '../../shared/errors.ts';
import { MAX_TIMEOUT_MS } from '../../shared/jsonrpc/meta.ts';
import type { PeerHello } from '../../shared/mux/hello.ts';
import { belowServer, wsSocket } from '../../shared/node/ws-socket.ts';
import type { Principal } from '../auth/principal.ts';
import type { HubConfig } from '../config.ts';
import type { HubMetrics } from '../http/metrics.ts';
import type { HubLogger } from '../logger.ts';
import type { StreamRelay } from '../relay/stream-relay.ts';
import type { Dispatcher } from '../rpc/dispatcher.ts';
import type { HubState } from '../state.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import { AgentSession } from './agent-session.ts';
import type { Fleet } from './fleet.ts';
import { OperatorSession } from './operator-session.ts';
import { TokenShares } from './token-shares.ts';

/** Least time over which hosts come back, however few they are. */
const MIN_SPREAD_MS = 500;
/** RFC 6455 §7.4.1. */
const POLICY_VIOLATION = 1008;

export interface SessionsOptions {
  readonly config: HubConfig;
  readonly state: HubState;
  readonly fleet: Fleet<AgentSession>;
  readonly dispatcher: Dispatcher;
  readonly relay: StreamRelay;
  readonly metrics: HubMetrics;
  readonly logger: HubLogger;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export class Sessions {
  readonly #options: SessionsOptions;
  /** From the 101 on, whether they serve yet or not, until what follows their end is done. */
  readonly #agents = new Map<AgentSession, Promise<void>>();
  readonly #operators = new Map<OperatorSession, Promise<void>>();
  readonly #tokenShares: TokenShares;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#tokenShares = new TokenShares(options.config.maxOperators);
  }

  get operatorCount(): number {
    return this.#operators.size;
  }

  /** Whether one more operator may come with that token. @throws FairleadError LIMIT_EXCEEDED */
  requirePlace({ tokenId }: Principal): void {
    this.#tokenShares.requirePlace(tokenId);
  }

  addAgent(host: HostState, socket: WebSocket, tcp: Socket, remoteAddress: string): void {
    const { config, fleet, relay, state, logger } = this.#options;
    const session = new AgentSession({
      host: host.host,
      epoch: host.epoch,
      socket: wsSocket(socket, belowServer(tcp), this.#watch(tcp)),
      remoteAddress,
      helloTimeoutMs: config.handshakeTimeoutMs,
      maxStreams: config.maxStreamsPerHost,
      fleet,
      relay,
      state,
      logger,
      onServing: (_session, hello) => this.#onServing(session, hello),
    });
    this.#agents.set(session, this.#runAgent(session));
  }

  addOperator(principal: Principal, socket: WebSocket, tcp: Socket, address: string): void {
    const { config, dispatcher, relay, logger } = this.#options;
    const session = new OperatorSession({
      caller: { principal, address },
      socket: wsSocket(socket, belowServer(tcp), this.#watch(tcp)),
      helloTimeoutMs: config.handshakeTimeoutMs,
      maxStreams: config.maxStreamsPerOperator,
      pool: this.#tokenShares.begin(principal.tokenId),
      dispatcher,
      relay,
      logger,
    });
    this.#operators.set(session, this.#runOperator(session));
    this.#endWithToken(session);
  }

  /** Closes the sessions of a token that is worthless now. */
  endOperatorsOf(tokenId: string): void {
    for (const session of this.#operators.keys()) {
      if (session.caller.principal.tokenId === tokenId) session.close(POLICY_VIOLATION, 'the token was revoked');
    }
  }

  /** Asks all to leave, gives them `drainMs`, closes the rest. Resolves when no line is left. */
  async drain(drainMs: number): Promise<void> {
    const spreadMs = MIN_SPREAD_MS + (this.#agents.size / this.#options.config.handshakesPerSecond) * 1000;
    const sessions = [...this.#agents.keys(), ...this.#operators.keys()];
    for (const session of sessions) session.goAway({ drainMs, spreadMs: Math.round(spreadMs), reason: 'the hub shuts down' });
    const { promise: patience, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, drainMs);
    await Promise.race([patience, Promise.all(sessions.map((session) => session.closed))]);
    clearTimeout(timer);
    // Also those that were let in while the rest drained.
    for (const session of [...this.#agents.keys(), ...this.#operators.keys()]) session.close();
    await this.ended();
  }

  /** Resolves when nothing of any session is under way. */
  async ended(): Promise<void> {
    await Promise.all([...this.#agents.values(), ...this.#operators.values()]);
  }

  async #runAgent(session: AgentSession): Promise<void> {
    const end = await session.run();
    this.#options.metrics.sessionEnded('agent', end);
    if (end !== 'superseded') this.#tell('disconnected', session, { result: end });
    await this.#noteSeen(session.host);
    this.#agents.delete(session);
  }

  #onServing(session: AgentSession, hello: PeerHello): void {
    this.#tell('connected', session, { software: hello.software });
    void this.#noteSeen(session.host, hello);
  }

  #tell(what: 'connected' | 'disconnected', { host, epoch }: AgentSession, more: JsonObject): void {
    const { state, logger } = this.#options;
    state.bus.publish(`host.${what}`, { host, epoch });
    state.events.append(host, [{ type: `host.${what}`, data: { epoch, ...more } }]).catch((err: unknown) => {
      logger.error({ host, err }, `could not keep that host ${host} is ${what}`);
    });
  }

  async #runOperator(session: OperatorSession): Promise<void> {
    this.#options.metrics.sessionEnded('operator', await session.run());
    this.#operators.delete(session);
    this.#tokenShares.end(session.caller.principal.tokenId);
  }

  /** A token that expires ends what was begun with it: streams and calls that follow something last as long as they like. */
  #endWithToken(session: OperatorSession): void {
    const { expiresAtMs } = session.caller.principal;
    if (expiresAtMs === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const look = () => {
      const leftMs = expiresAtMs - this.#options.now();
      if (leftMs <= 0) session.close(POLICY_VIOLATION, 'the token has expired');
      else timer = setTimeout(look, Math.min(leftMs, MAX_TIMEOUT_MS)).unref();
    };
    look();
    void session.closed.then(() => clearTimeout(timer));
  }

  /** Only for people to read: when it cannot be written, the session goes on. */
  async #noteSeen(host: string, hello?: PeerHello): Promise<void> {
    const {
      state: { store },
      now,
      logger,
    } = this.#options;
    const seen: Pick<HostState, 'agentVersion' | 'contractVersion'> =
      hello === undefined ? {} : { agentVersion: versionOf(hello.software), contractVersion: hello.contract };
    try {
      await store.collection(HOSTS).modify(host, (state) => {
        // When it was seen, its upgrade has noted already (hub/auth/gate.ts).
        const isKnown =
          hello !== undefined && state.agentVersion === seen.agentVersion && state.contractVersion === hello.contract;
        return isKnown ? undefined : { ...state, ...seen, lastSeenAtMs: now() };
      });
    } catch (err) {
      logger.error({ host, err }, `could not note that host ${host} was seen`);
    }
  }

  #watch(tcp: Socket): Unsent | undefined {
    const unsent = watchUnsent(tcp);
    if (!('reason' in unsent)) return unsent;
    const { reason } = unsent;
    this.#options.logger.debug({ reason }, 'TCP_NOTSENT_LOWAT is not set: control calls may wait behind bulk data');
    return undefined;
  }
}

/** `fairlead-agent/0.1.0` → `0.1.0`. */
function versionOf(software: string): string {
  return software.split('/').at(-1) ?? software;
}
