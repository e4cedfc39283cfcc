/**
 * Nonces for agents that are about to connect. Each is good once and for 30 seconds; how many are outstanding is bounded, because
 * anybody may ask for one.
 */
import { randomBytes } from 'node:crypto';
import { FairleadError } from '../../shared/errors.ts';
import { NONCE_BYTES } from '../../shared/protocol/handshake.ts';

export const CHALLENGE_TTL_MS = 30_000;

export interface IssuedChallenge {
  readonly nonce: string;
  /** RFC 3339, as the agent signs it. */
  readonly expiresAt: string;
}

export type ChallengeCheck = 'fresh' | 'expired' | 'unknown';

export class Challenges {
  readonly #maxOutstanding: number;
  readonly #now: () => number;
  /** Nonce to expiry in Unix milliseconds. All live equally long, so the oldest entry is the first to expire. */
  readonly #outstanding = new Map<string, number>();

  constructor(options: { readonly maxOutstanding: number; readonly now: () => number }) {
    this.#maxOutstanding = options.maxOutstanding;
    this.#now = options.now;
  }

  /** @throws FairleadError LIMIT_EXCEEDED */
  issue(): IssuedChallenge {
    this.#dropExpired();
    if (this.#outstanding.size >= this.#maxOutstanding) {
      throw new FairleadError('LIMIT_EXCEEDED', `${this.#maxOutstanding} challenges are outstanding; try again later`);
    }
    const nonce = randomBytes(NONCE_BYTES).toString('base64url');
    const expiresAtMs = this.#now() + CHALLENGE_TTL_MS;
    this.#outstanding.set(nonce, expiresAtMs);
    return { nonce, expiresAt: new Date(expiresAtMs).toISOString() };
  }

  /** Uses the nonce up, whatever the answer. A nonce that was used already is unknown. */
  take(nonce: string, expiresAt: string): ChallengeCheck {
    const expiresAtMs = this.#outstanding.get(nonce);
    this.#outstanding.delete(nonce);
    if (expiresAtMs === undefined || new Date(expiresAtMs).toISOString() !== expiresAt) return 'unknown';
    return expiresAtMs <= this.#now() ? 'expired' : 'fresh';
  }

  #dropExpired(): void {
    const now = this.#now();
    for (const [nonce, expiresAtMs] of this.#outstanding) {
      if (expiresAtMs > now) return;
      this.#outstanding.delete(nonce);
    }
  }
}
