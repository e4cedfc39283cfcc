/**
 * One line from one host.
 *
 *     connecting ──HELLO──▶ serving ──line closed──▶ ended
 *         └── no HELLO, wrong role, contract too old ──▶ ended        never seen by a call
 *                         serving ──newer session──▶ fenced ──▶ ended    no call from the moment the newer one serves
 *
 * `run` carries it from the first to the last state and never rejects: what goes wrong closes this line and is logged.
 */
import { randomBytes } from 'node:crypto';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import { Line } from '../../shared/line/line.ts';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import type { PeerHello } from '../../shared/mux/hello.ts';
import type { MuxSession } from '../../shared/mux/session.ts';
import { VERSION } from '../../shared/node/version.ts';
import { isSupportedVersion, OLDEST_SUPPORTED_VERSION } from '../../shared/protocol/skew.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { HubLogger } from '../logger.ts';
import type { StreamRelay } from '../relay/stream-relay.ts';
import type { HubState } from '../state.ts';
import type { Fleet, FleetSession } from './fleet.ts';
import { learnFacts } from './host-facts.ts';
import { HostFeed } from './host-feed.ts';

/** RFC 6455 §7.4.1: a policy of the hub's was violated. */
const POLICY_VIOLATION = 1008;
const GOING_AWAY = 1001;

export interface AgentSessionOptions {
  readonly host: string;
  readonly epoch: number;
  readonly socket: MessageSocket;
  readonly remoteAddress: string;
  readonly helloTimeoutMs: number;
  readonly maxStreams: number;
  readonly fleet: Fleet<AgentSession>;
  readonly relay: StreamRelay;
  readonly state: Pick<HubState, 'store' | 'events' | 'intake'>;
  readonly logger: HubLogger;
  /** The session serves: the peer's HELLO is good and no newer session is there. */
  readonly onServing: (session: AgentSession, hello: PeerHello) => void;
}

export type SessionEnd = 'closed' | 'superseded' | 'failed';

export class AgentSession implements FleetSession {
  readonly host: string;
  readonly epoch: number;
  readonly remoteAddress: string;
  readonly #options: AgentSessionOptions;
  readonly #logger: HubLogger;
  readonly #line: Line;
  #contractVersion = 0;
  readonly #feed: HostFeed;
  #superseded = false;

  constructor(options: AgentSessionOptions) {
    this.#options = options;
    this.host = options.host;
    this.epoch = options.epoch;
    this.remoteAddress = options.remoteAddress;
    this.#logger = options.logger.child({ host: options.host, epoch: options.epoch });
    this.#line = new Line({
      socket: options.socket,
      role: 'acceptor',
      hello: {
        contract: CONTRACT_VERSION,
        software: `fairlead-hub/${VERSION}`,
        role: 'hub',
        session: { id: randomBytes(16).toString('base64url'), epoch: options.epoch, resume: true },
      },
      handlers: {
        onRequest: async (method) => {
          throw new FairleadError('METHOD_NOT_FOUND', `the hub answers no calls of hosts, ${method.slice(0, 128)} neither`);
        },
        onNotification: (method, params) => this.#feed.onNotification(method, params),
        onOpen: (stream, meta) => options.relay.openFromHost(stream, meta, this.host, this.#line.mux),
        onResume: (stream, said) =>
          options.relay.resumeHost(stream, said, { host: this.host, epoch: this.epoch }, this.#line.mux),
      },
      // Those that it resumes count too.
      limits: { helloTimeoutMs: options.helloTimeoutMs, mux: { maxStreams: options.maxStreams } },
      logger: this.#logger,
    });
    const { events, intake } = options.state;
    this.#feed = new HostFeed({
      host: this.host,
      peer: this.#line.peer,
      inventory: options.fleet.inventory,
      events,
      intake,
      logger: this.#logger,
      isCurrent: () => !this.#superseded,
    });
  }

  get contractVersion(): number {
    return this.#contractVersion;
  }

  get peer(): JsonRpcPeer {
    return this.#line.peer;
  }

  get mux(): MuxSession {
    return this.#line.mux;
  }

  get rttMs(): number | undefined {
    return this.#line.rttMs;
  }

  /** Bottom half: resolves when the line is closed. */
  async run(): Promise<SessionEnd> {
    let failure: FairleadError | undefined;
    try {
      await this.#serve(await this.#line.ready);
    } catch (thrown) {
      failure = toFairleadError(thrown);
      this.close(POLICY_VIOLATION, failure.message);
    }
    const { error = failure, code, reason } = await this.#line.closed;
    this.#options.fleet.remove(this);
    const fields = { closeCode: code, reason, code: error?.code };
    if (this.#superseded || error === undefined) this.#logger.info(fields, `host ${this.host} disconnected`);
    else this.#logger.warn(fields, `host ${this.host} disconnected: ${error.message}`);
    if (this.#superseded) return 'superseded';
    return error === undefined ? 'closed' : 'failed';
  }

  supersede(byEpoch: number): void {
    this.#superseded = true;
    this.#logger.warn({ byEpoch }, `session ${this.epoch} of host ${this.host} is superseded by ${byEpoch}`);
    this.close(POLICY_VIOLATION, `superseded by session ${byEpoch} of this host`);
  }

  goAway(options: { drainMs: number; spreadMs: number; reason: string }): void {
    this.#line.goAway(options);
  }

  close(code = GOING_AWAY, reason = 'the hub closes the line'): void {
    this.#line.close(code, reason);
  }

  get closed(): Promise<unknown> {
    return this.#line.closed;
  }

  async #serve(hello: PeerHello): Promise<void> {
    if (hello.role !== 'agent') throw new FairleadError('PROTOCOL_ERROR', `a host's HELLO says role ${hello.role}, not agent`);
    if (!isSupportedVersion(hello.contract)) {
      const message = `contract version ${hello.contract} is too old, ${OLDEST_SUPPORTED_VERSION} is the least; upgrade the agent`;
      throw new FairleadError('UNSUPPORTED', message);
    }
    this.#contractVersion = hello.contract;
    if (!this.#options.fleet.add(this)) return;
    this.#options.relay.released({ host: this.host }, hello);
    this.#options.onServing(this, hello);
    this.#logger.info({ software: hello.software, contract: hello.contract }, `host ${this.host} connected`);
    await this.#feed.begin();
    await this.#learnFacts();
  }

  /** The host is of use without. */
  async #learnFacts(): Promise<void> {
    try {
      await learnFacts(this.#options.state.store, this.host, this.#line.peer);
    } catch (thrown) {
      this.#logger.debug({ err: thrown }, `could not learn what host ${this.host} can do`);
    }
  }
}
