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

export interface ChallengesOptions {
  readonly maxOutstanding: number;
  /** Unix milliseconds, for what is told. */
  readonly now: () => number;
  /** Milliseconds that never go back, by which a challenge lives: else one would be good for an hour where the clock is set back by one. */
  readonly elapsedMs: () => number;
}

interface Outstanding {
  readonly expiresAt: string;
  readonly untilMs: number;
}

export type ChallengeCheck = 'fresh' | 'expired' | 'unknown';

export class Challenges {
  readonly #options: ChallengesOptions;
  /** By nonce. All live equally long, so the oldest entry is the first to expire. */
  readonly #outstanding = new Map<string, Outstanding>();

  constructor(options: ChallengesOptions) {
    this.#options = options;
  }

  /** @throws FairleadError LIMIT_EXCEEDED */
  issue(): IssuedChallenge {
    this.#dropExpired();
    const { maxOutstanding, now, elapsedMs } = this.#options;
    if (this.#outstanding.size >= maxOutstanding) {
      throw new FairleadError('LIMIT_EXCEEDED', `${maxOutstanding} challenges are outstanding; try again later`);
    }
    const nonce = randomBytes(NONCE_BYTES).toString('base64url');
    const expiresAt = new Date(now() + CHALLENGE_TTL_MS).toISOString();
    this.#outstanding.set(nonce, { expiresAt, untilMs: elapsedMs() + CHALLENGE_TTL_MS });
    return { nonce, expiresAt };
  }

  /** Uses the nonce up, whatever the answer. A nonce that was used already is unknown. */
  take(nonce: string, expiresAt: string): ChallengeCheck {
    const outstanding = this.#outstanding.get(nonce);
    this.#outstanding.delete(nonce);
    if (outstanding?.expiresAt !== expiresAt) return 'unknown';
    return outstanding.untilMs <= this.#options.elapsedMs() ? 'expired' : 'fresh';
  }

  #dropExpired(): void {
    const nowMs = this.#options.elapsedMs();
    for (const [nonce, { untilMs }] of this.#outstanding) {
      if (untilMs > nowMs) return;
      this.#outstanding.delete(nonce);
    }
  }
}
