/** The door of the hub: how many may knock, and who is let in. One for HTTP and WebSockets alike. */
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../../shared/clock.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { HubConfig } from '../config.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { Admission } from './admission.ts';
import { CHALLENGE_TTL_MS, Challenges, type IssuedChallenge } from './challenges.ts';
import { verifyConnectProof } from './connect-proof.ts';
import { Pace } from './pace.ts';
import type { Principal } from './principal.ts';
import { HandshakeRefused, tooManyHandshakes } from './refused.ts';
import type { TokenService } from './tokens.ts';
import type { Turns } from './turns.ts';

/** Challenges that may be outstanding: as many hosts as may be, and again as many that gave up half-way. */
const CHALLENGES_PER_HOST = 2;
/** Of some 150 bytes each. */
const MAX_CHALLENGES = 200_000;

export interface GateOptions {
  readonly config: HubConfig;
  readonly store: Store;
  readonly tokens: TokenService;
  readonly hubId: string;
  readonly clock: Clock;
  /** In which hosts are looked at. */
  readonly turns: Pick<Turns, 'next'>;
  /** How far the hub is behind, in milliseconds. */
  readonly behindMs: () => number;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export class Gate {
  readonly #options: GateOptions;
  readonly #admission: Admission;
  readonly #challenges: Challenges;

  constructor(options: GateOptions) {
    this.#options = options;
    const { config, clock, behindMs, now } = options;
    this.#challenges = new Challenges({ maxOutstanding: maxChallenges(config), now, elapsedMs: () => clock.now() });
    this.#admission = new Admission({
      pace: new Pace({
        floorPerSecond: config.minHandshakesPerSecond,
        ceilingPerSecond: config.handshakesPerSecond,
        targetLagMs: config.handshakeLagMs,
        lagMs: behindMs,
        now: () => clock.now(),
      }),
      burst: config.handshakeBurst,
      perAddress: { perSecond: config.addressHandshakesPerSecond, burst: config.addressHandshakeBurst },
      now: () => clock.now(),
    });
  }

  /** Takes one handshake of that address. @throws HandshakeRefused */
  admit(address: string): void {
    const waitMs = this.#admission.take(address);
    if (waitMs > 0) throw tooManyHandshakes(waitMs);
  }

  issueChallenge(): IssuedChallenge {
    return this.#challenges.issue();
  }

  /**
   * The host, with the epoch of the session that it is let in for. Its challenge has let it in already, and is used up by this: only whoever
   * comes without one counts as a handshake. @throws HandshakeRefused
   */
  async agent(request: IncomingMessage, address: string): Promise<HostState> {
    const { store, hubId, turns, now } = this.#options;
    if (request.headers.origin !== undefined) {
      throw new HandshakeRefused('PERMISSION_DENIED', 'origin', 'this endpoint is for agents; a web page has no business here');
    }
    await turns.next();
    const { host } = await verifyConnectProof(request.headers.authorization, request.socket, {
      store,
      challenges: this.#challenges,
      hubId,
      onStranger: () => this.admit(address),
    });
    const raised = await store
      .collection(HOSTS)
      .modify(host, (state) => ({ ...state, epoch: state.epoch + 1, lastSeenAtMs: now() }));
    if (raised !== undefined) return raised;
    throw new HandshakeRefused('UNAUTHENTICATED', 'unknown-host', `host ${host} was removed; enrol it again`);
  }

  /** @throws HandshakeRefused, FairleadError UNAUTHENTICATED */
  async operator(headers: { authorization: string | undefined; origin: string | undefined }): Promise<Principal> {
    const { config, tokens } = this.#options;
    if (headers.origin !== undefined && !config.allowedOrigins.includes(headers.origin)) {
      const message = `web pages of ${headers.origin.slice(0, 200)} may not call this hub; allowedOrigins says which may`;
      throw new HandshakeRefused('PERMISSION_DENIED', 'origin', message);
    }
    const token = /^Bearer +([\x21-\x7e]+)$/i.exec(headers.authorization ?? '')?.[1];
    if (token === undefined) {
      throw new FairleadError('UNAUTHENTICATED', 'an operator needs a token: send it as authorization: Bearer flo_…');
    }
    return await tokens.authenticateOperator(token);
  }

  /** The same for a POST, of which an operator may send many: only those that fail count as a handshake. */
  async operatorByPost(call: {
    authorization: string | undefined;
    origin: string | undefined;
    address: string;
  }): Promise<Principal> {
    try {
      return await this.operator(call);
    } catch (thrown) {
      this.admit(call.address);
      throw thrown;
    }
  }
}

/** At least as many as are admitted while one lives, so that a stranger who asks for them keeps no host out. */
function maxChallenges({ maxHosts, handshakeBurst, handshakesPerSecond }: HubConfig): number {
  const admitted = handshakeBurst + handshakesPerSecond * Math.ceil(CHALLENGE_TTL_MS / 1000);
  return Math.max(maxHosts * CHALLENGES_PER_HOST, Math.min(admitted, MAX_CHALLENGES));
}
