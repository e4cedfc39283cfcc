/**
 * A token buys a public key a host name (shared/protocol/handshake.ts draws the exchange).
 *
 * The answer to an enrolment may be lost on its way, and the token is used up by then. So the same key that comes again for the same
 * name with the token that had enrolled it gets the same answer, and takes no further use.
 */
import { FairleadError } from '../../shared/errors.ts';
import { sha256, verifySignature } from '../../shared/node/host-key.ts';
import { Labels } from '../../shared/protocol/common.ts';
import { type EnrolRequest, type EnrolResponse, enrolProofBytes } from '../../shared/protocol/handshake.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { TokenService } from './tokens.ts';

export interface EnrolmentOptions {
  readonly store: Store;
  readonly tokens: TokenService;
  readonly hubId: string;
  readonly room: HostRoom;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** How many more hosts may be enrolled. They are counted when it may be none: that looks at each, and a fleet enrols in a rush. */
export class HostRoom {
  readonly #store: Store;
  readonly #maxHosts: number;
  #left = 0;

  constructor(store: Store, maxHosts: number) {
    this.#store = store;
    this.#maxHosts = maxHosts;
  }

  /** For one host more. @throws FairleadError LIMIT_EXCEEDED */
  async take(): Promise<void> {
    if (this.#left <= 0) this.#left = this.#maxHosts - (await this.#store.collection(HOSTS).count());
    if (this.#left <= 0) {
      throw new FairleadError('LIMIT_EXCEEDED', `the hub has ${this.#maxHosts} hosts; remove some or raise maxHosts`);
    }
    this.#left -= 1;
  }
}

/** @throws FairleadError UNAUTHENTICATED, CONFLICT, LIMIT_EXCEEDED, INVALID_PARAMS; the token is used up only when none is thrown */
export async function enrol(request: EnrolRequest, options: EnrolmentOptions): Promise<EnrolResponse & { tokenId: string }> {
  const { store, tokens, hubId } = options;
  const { host, publicKey, token: text } = request;
  const token = await tokens.identifyEnrolToken(text);
  const answer = { host, hubId, tokenId: token.id };
  if (!verifySignature(publicKey, enrolProofBytes({ publicKey, tokenDigest: sha256(text), host }), request.proof)) {
    throw new FairleadError('UNAUTHENTICATED', `the enrolment of ${host} is not signed by the key that it brings`);
  }
  const known = (await store.collection(HOSTS).get(host))?.value;
  requireSameKey(known, request);
  if (known?.enrolledWith === token.id && !token.revoked) return answer;
  if (known === undefined) await options.room.take();
  // Each is within the limit, both together may not be.
  const labels = parseWith(Labels, { ...request.labels, ...token.labels }, 'enrolment.labels');
  await tokens.consumeEnrolToken(token.id);
  const enrolled = { host, publicKey, labels, enrolledAtMs: options.now(), enrolledWith: token.id };
  if (known === undefined && (await store.collection(HOSTS).create(host, { ...enrolled, epoch: 0 }))) return answer;
  let isTwin = false;
  const changed = await store.collection(HOSTS).modify(host, (state) => {
    requireSameKey(state, request);
    isTwin = known === undefined && state.enrolledWith === token.id;
    return { ...state, ...enrolled };
  });
  // The same host had asked before, and was answered while this was looked at.
  if (isTwin) await tokens.giveBackEnrolToken(token.id);
  if (changed === undefined) throw new FairleadError('CONFLICT', `host ${host} was removed while it enrolled; enrol again`);
  return answer;
}

function requireSameKey(known: HostState | undefined, request: EnrolRequest): void {
  if (known === undefined || known.publicKey === request.publicKey) return;
  const remedy = 'choose another name, or remove the old host with fairlead host rm first';
  throw new FairleadError('CONFLICT', `host ${request.host} is enrolled with another key; ${remedy}`);
}
