/**
 * Calls that one host has to answer at once, shared out among operators: a host takes 256 (PeerLimits), and whoever could have them all would
 * keep everybody else from it. Calls that follow something last as long as their caller likes, so they get half of the places at most.
 */
import { FairleadError } from '../../shared/errors.ts';
import { DEFAULT_PEER_LIMITS } from '../../shared/jsonrpc/types.ts';

const PLACES = DEFAULT_PEER_LIMITS.maxConcurrentRequests;
/** Of one token, calls of every kind. */
const MAX_OF_TOKEN = PLACES / 2;
/** Calls without an end, of all tokens and of one. */
const MAX_ENDLESS = PLACES / 2;
const MAX_ENDLESS_OF_TOKEN = PLACES / 4;

export interface HostShare {
  readonly host: string;
  readonly tokenId: string;
  /** The call lasts until it is cancelled. */
  readonly endless: boolean;
}

interface Limit {
  readonly key: string;
  readonly max: number;
  /** For the message. */
  readonly whose: string;
}

export class HostShares {
  readonly #counts = new Map<string, number>();

  /** A place at the host until it is disposed of. @throws FairleadError LIMIT_EXCEEDED */
  take(share: HostShare): Disposable {
    const limits = limitsOf(share);
    for (const { key, max, whose } of limits) {
      if ((this.#counts.get(key) ?? 0) < max) continue;
      throw new FairleadError('LIMIT_EXCEEDED', `${max} ${whose} run on host ${share.host} already; end some`);
    }
    for (const { key } of limits) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    return new Place(() => this.#giveBack(limits));
  }

  #giveBack(limits: readonly Limit[]): void {
    for (const { key } of limits) {
      const left = (this.#counts.get(key) ?? 1) - 1;
      if (left === 0) this.#counts.delete(key);
      else this.#counts.set(key, left);
    }
  }
}

/** A class: V8 makes an object literal with a computed key, such as `[Symbol.dispose]`, slowly each time. */
class Place implements Disposable {
  readonly #giveBack: () => void;

  constructor(giveBack: () => void) {
    this.#giveBack = giveBack;
  }

  [Symbol.dispose](): void {
    this.#giveBack();
  }
}

function limitsOf({ host, tokenId, endless }: HostShare): readonly Limit[] {
  const ofToken = { key: `${host} ${tokenId}`, max: MAX_OF_TOKEN, whose: 'calls of this token' };
  if (!endless) return [ofToken];
  return [
    ofToken,
    { key: `${host} ${tokenId} endless`, max: MAX_ENDLESS_OF_TOKEN, whose: 'calls of this token that follow something' },
    { key: `${host} endless`, max: MAX_ENDLESS, whose: 'calls that follow something' },
  ];
}
