/** What the hub does once it has a store: sessions, calls, streams and HTTP, wired to one another. */
import type { HttpBindings } from '@hono/node-server';
import type { Hono } from 'hono';
import type { Clock } from '../shared/clock.ts';
import { toFairleadError } from '../shared/errors.ts';
import { bearerIn } from '../shared/protocol/bearer.ts';
import type { EnrolRequest } from '../shared/protocol/handshake.ts';
import { enrol, HostRoom } from './auth/enrolment.ts';
import { Gate } from './auth/gate.ts';
import { HandshakeRefused } from './auth/refused.ts';
import type { TokenService } from './auth/tokens.ts';
import type { Turns } from './auth/turns.ts';
import { Commands } from './commands/commands.ts';
import type { HubConfig } from './config.ts';
import { DesiredFleet } from './desired/desired-fleet.ts';
import { createApp } from './http/app.ts';
import { type AnswerChallenge, challengeAnswers } from './http/challenge.ts';
import { createHealthApp, type HealthApp, type HealthCheck } from './http/health.ts';
import { HubMetrics, type RefusedEndpoint } from './http/metrics.ts';
import { RpcPost } from './http/rpc-post.ts';
import type { Strangers } from './http/strangers.ts';
import { namedImages } from './images/named-images.ts';
import { openImages } from './images/open-images.ts';
import type { HubLogger } from './logger.ts';
import { StreamRelay } from './relay/stream-relay.ts';
import { openRollouts } from './rollout/open-rollouts.ts';
import { Audit } from './rpc/audit.ts';
import { Dispatcher } from './rpc/dispatcher.ts';
import { allHubHandlers } from './rpc/handlers/all.ts';
import type { AgentSession } from './sessions/agent-session.ts';
import { Fleet } from './sessions/fleet.ts';
import { Sessions } from './sessions/sessions.ts';
import { UpgradeHandler } from './sessions/upgrade.ts';
import type { HubState } from './state.ts';
import { backupInto } from './store/location.ts';
import { HOSTS } from './store/records.ts';
import type { StoreHealth } from './store/store.ts';

/** A host that does not answer by then may use any image that it has. */
const ASK_HOST_MS = 10_000;

export interface ServiceOptions {
  readonly config: HubConfig;
  readonly state: HubState;
  readonly tokens: TokenService;
  readonly hubId: string;
  readonly strangers: Strangers;
  readonly turns: Turns;
  /** How far the hub is behind, in milliseconds. */
  readonly behindMs: () => number;
  readonly logger: HubLogger;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export interface HubService {
  readonly answerChallenge: AnswerChallenge;
  readonly app: Hono<{ Bindings: HttpBindings }>;
  readonly health: HealthApp;
  readonly upgrade: UpgradeHandler;
  endOperatorsOf(tokenId: string): void;
  /** Goes on with what the hub before this one had under way. */
  takeUp(): Promise<void>;
  /** From now on not ready and closed to new sessions; resolves when no line is left. */
  drain(drainMs: number): Promise<void>;
}

export function createService(options: ServiceOptions): HubService {
  const { config, state, tokens, hubId, strangers, turns, behindMs, logger, clock, now } = options;
  const { store, inventory } = state;
  const startedMs = clock.now();
  let isDraining = false;

  const counts = () => ({
    hostsConnected: fleet.size,
    operatorsConnected: sessions.operatorCount,
    streamsOpen: relay.openCount,
    uptimeMs: Math.round(clock.now() - startedMs),
  });
  const metrics = new HubMetrics(() => ({ ...counts(), rpcInFlight: dispatcher.inFlight }));
  const audit = new Audit(logger, state.auditBook);
  const fleet = new Fleet<AgentSession>({ store, inventory });
  const unreachable = (host: string) => fleet.unreachable({ away: host, vm: undefined });
  const commands = new Commands({
    book: state.commandBook,
    bus: state.bus,
    sessionOf: (host) => fleet.get(host),
    unreachable,
    now,
    onFault: (err) => logger.error({ err }, 'could not keep what became of a command'),
  });
  const rollouts = openRollouts({
    state,
    hubId,
    sessionOf: (host) => fleet.get(host),
    logger,
    clock,
    now,
    settleMs: config.rolloutSettleMs,
    registry: metrics.registry,
  });
  const { images, imageStreams } = openImages({
    config,
    hubId,
    store,
    logger,
    now,
    blobsOf: async (host) => {
      const session = fleet.get(host);
      if (session !== undefined) return session.peer.call('blob.list', {}, { timeoutMs: ASK_HOST_MS }).catch(() => undefined);
      return (await store.collection(HOSTS).get(host)) === undefined ? null : undefined;
    },
    named: () => namedImages({ desired, rollouts, commands }),
  });
  const desired: DesiredFleet = new DesiredFleet({ ...state, images, peerOf: (host) => fleet.get(host)?.peer, now, logger });
  const handlers = allHubHandlers({
    ...state,
    desired,
    images,
    commands,
    rollouts,
    unreachable,
    place: (method, params, caller) => dispatcher.place(method, params, caller),
    hubId,
    backup: () => backupInto(config.dataDir, now()),
    tokens,
    counts,
    now,
    liveHost: (host) => fleet.get(host),
    disconnectHost: (host) => {
      fleet.get(host)?.close(1008, 'the host was removed');
      fleet.inventory.forget(host);
      state.intake
        .forget(host)
        .catch((err: unknown) => logger.error({ host, err }, `could not forget the events of host ${host}`));
    },
  });
  const dispatcher: Dispatcher = new Dispatcher({
    fleet,
    hosts: store.collection(HOSTS),
    commands,
    handlers,
    images,
    metrics,
    audit,
    clock,
    now,
  });
  commands.takeUp();
  const { maxStreamsPerHost } = config;
  const relay: StreamRelay = new StreamRelay({
    dispatcher,
    fleet,
    metrics,
    audit,
    images: imageStreams,
    maxStreamsPerHost,
    clock,
    now,
  });
  const sessions: Sessions = new Sessions({ config, state, fleet, dispatcher, relay, metrics, logger, now });
  const room = new HostRoom(store, config.maxHosts);
  const gate = new Gate({ config, store, tokens, hubId, clock, turns, behindMs, now });

  const rpcPost = new RpcPost({
    dispatcher,
    onRefused: (refusal) => onRefused('rpc', refusal),
    authenticate: (call) => gate.operatorByPost(call),
    onFault: (err, method) => logger.error({ err, method }, 'a request handler failed'),
  });
  const health = createHealthApp({ hubId, metrics, readiness: () => readiness(isDraining, store.health) });
  const app = createApp({
    health,
    behindProxy: config.behindProxy,
    allowedOrigins: config.allowedOrigins,
    admit: (address) => gate.admit(address),
    enrol: (request, address) => auditedEnrol(request, address),
    onRefused,
    onAuthenticated: (socket) => strangers.authenticated(socket),
    rpcPost,
  });

  const upgrade = new UpgradeHandler({
    behindProxy: config.behindProxy,
    metrics,
    logger,
    draining: () => isDraining,
    admit: (address) => gate.admit(address),
    authenticateAgent: (request, address) => gate.agent(request, address),
    authenticateOperator: async (request) => {
      if (sessions.operatorCount >= config.maxOperators) {
        const message = `${config.maxOperators} operators are connected; try again later`;
        throw new HandshakeRefused('LIMIT_EXCEEDED', 'capacity', message, { status: 503, retryAfterMs: 5000 });
      }
      const { authorization, origin, 'sec-websocket-protocol': protocols } = request.headers;
      const principal = await gate.operator({ authorization: authorization ?? bearerIn(protocols), origin });
      sessions.requirePlace(principal);
      return principal;
    },
    onAuthenticated: (socket) => strangers.authenticated(socket),
    onAgent: (host, socket, tcp, address) => sessions.addAgent(host, socket, tcp, address),
    onOperator: (principal, socket, tcp, address) => sessions.addOperator(principal, socket, tcp, address),
  });

  function onRefused(endpoint: RefusedEndpoint, refusal: HandshakeRefused): void {
    metrics.handshakeRefused(endpoint, refusal.reason);
    if (refusal.reason === 'fault') logger.error({ endpoint, err: refusal.cause }, 'could not answer a handshake');
    else logger.debug({ endpoint, code: refusal.code, reason: refusal.reason }, `handshake refused: ${refusal.message}`);
  }

  async function auditedEnrol(request: EnrolRequest, address: string): Promise<{ host: string; hubId: string }> {
    const { host } = request;
    try {
      const { tokenId, ...answer } = await enrol(request, { store, tokens, hubId, room, now });
      await audit.enrolment({ host, tokenId, address, code: 'OK' });
      await state.events.append(host, [{ type: 'host.enrolled', data: {} }]);
      return answer;
    } catch (thrown) {
      await audit.enrolment({ host, address, code: toFairleadError(thrown).code });
      throw thrown;
    }
  }

  const answerChallenge = challengeAnswers({
    hubId,
    behindProxy: config.behindProxy,
    admit: (address) => gate.admit(address),
    issueChallenge: () => gate.issueChallenge(),
    onRefused: (refusal) => onRefused('challenge', refusal),
    // As many again may come for something else, a probe or an operator.
    maxHeld: Math.floor(config.maxUnauthenticated / 2),
    clock,
  });

  return {
    answerChallenge,
    app,
    health,
    upgrade,
    takeUp: () => rollouts.takeUp(),
    endOperatorsOf: (tokenId) => {
      sessions.endOperatorsOf(tokenId);
      rpcPost.endCallsOf(tokenId);
      commands.cancelQueuedOf(tokenId);
    },
    drain: async (drainMs) => {
      isDraining = true;
      await rollouts.close();
      await sessions.drain(drainMs);
      relay[Symbol.dispose]();
      commands[Symbol.dispose]();
      desired[Symbol.dispose]();
      await state.auditBook.flush();
    },
  };
}

function readiness(isDraining: boolean, health: StoreHealth): readonly HealthCheck[] {
  return [
    { name: 'store', ...health },
    isDraining ? { name: 'accepting', ok: false, reason: 'the hub is shutting down' } : { name: 'accepting', ok: true },
  ];
}
