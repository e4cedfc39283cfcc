/**
 * Tokens of hosts and operators: made, checked, consumed, revoked.
 *
 * Every refusal of a credential reads the same to its bearer except for what an honest one must know (expired, used up, revoked), and
 * that is told only to who has the right secret.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import { TOKENS, type TokenState } from '../store/records.ts';
import type { Store, Stored } from '../store/store.ts';
import type { Principal } from './principal.ts';
import { newSecret, parseToken, secretMatches, type TokenKind } from './secrets.ts';

/** `token.list` answers in one message. */
const MAX_TOKENS = 1000;
/** How long a token that has expired is still listed. */
const KEEP_EXPIRED_MS = 7 * 24 * 3600 * 1000;

export interface TokenServiceOptions {
  readonly store: Store;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** Called once a token is worthless, so that its sessions can be closed. */
  readonly onRevoked: (id: string) => void;
}

export class TokenService {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #onRevoked: (id: string) => void;

  constructor(options: TokenServiceOptions) {
    this.#store = options.store;
    this.#now = options.now;
    this.#onRevoked = options.onRevoked;
  }

  async create(params: Params<'token.create'>): Promise<Result<'token.create'>> {
    await this.#makeRoom();
    const { id, token, secretHash } = newSecret(params.kind);
    const createdAtMs = this.#now();
    const { ttlMs, description } = params;
    const state: TokenState = {
      id,
      kind: params.kind,
      secretHash,
      description,
      createdAtMs,
      revoked: false,
      ...(ttlMs === undefined ? {} : { expiresAtMs: createdAtMs + ttlMs }),
      ...(params.kind === 'enrol' ? { usesLeft: params.maxUses, labels: params.labels } : { role: params.role }),
    };
    if (!(await this.#store.collection(TOKENS).create(id, state)))
      throw new FairleadError('INTERNAL', `token id ${id} exists already`);
    return { token, record: tokenRecord(state) };
  }

  async list(): Promise<Result<'token.list'>> {
    return { tokens: (await this.#store.collection(TOKENS).list()).map((stored) => tokenRecord(stored.value)) };
  }

  async revoke(id: string): Promise<void> {
    const revoked = await this.#store.collection(TOKENS).modify(id, (token) => ({ ...token, revoked: true }));
    if (revoked === undefined) throw new FairleadError('NOT_FOUND', `no token ${id}`);
    this.#onRevoked(id);
  }

  /** Forgets the administrators' tokens of that description. */
  async discardAdmins(description: string): Promise<void> {
    const tokens = await this.#store.collection(TOKENS).list();
    const same = tokens.filter(({ value }) => value.role === 'admin' && value.description === description);
    await this.#remove(same);
    for (const { value } of same) this.#onRevoked(value.id);
  }

  /** Who an operator's token is. @throws FairleadError UNAUTHENTICATED */
  async authenticateOperator(text: string): Promise<Principal> {
    const token = await this.#find('operator', text);
    this.#requireUsable(token);
    return {
      tokenId: token.id,
      role: token.role ?? 'viewer',
      description: token.description,
      expiresAtMs: token.expiresAtMs,
    };
  }

  /** The record of an enrolment token whose secret is right, usable or not. @throws FairleadError UNAUTHENTICATED */
  async identifyEnrolToken(text: string): Promise<TokenState> {
    return await this.#find('enrol', text);
  }

  /** Takes one use, once, however many try at the same time. @throws FairleadError UNAUTHENTICATED when none is left */
  async consumeEnrolToken(id: string): Promise<TokenState> {
    const consumed = await this.#store.collection(TOKENS).modify(id, (token) => {
      this.#requireUsable(token);
      return token.usesLeft === undefined ? token : { ...token, usesLeft: token.usesLeft - 1 };
    });
    if (consumed === undefined) throw new FairleadError('UNAUTHENTICATED', `token ${id} is gone`);
    return consumed;
  }

  /** The use was not needed. */
  async giveBackEnrolToken(id: string): Promise<void> {
    await this.#store
      .collection(TOKENS)
      .modify(id, (token) => (token.usesLeft === undefined ? undefined : { ...token, usesLeft: token.usesLeft + 1 }));
  }

  async #find(kind: TokenKind, text: string): Promise<TokenState> {
    const parts = parseToken(kind, text);
    const stored = parts === undefined ? undefined : await this.#store.collection(TOKENS).get(parts.id);
    if (parts === undefined || stored?.value.kind !== kind || !secretMatches(parts.secret, stored.value.secretHash)) {
      throw new FairleadError('UNAUTHENTICATED', `the ${kind} token is not one of this hub`);
    }
    return stored.value;
  }

  #requireUsable(token: TokenState): void {
    const reason = this.#worthlessBecause(token);
    if (reason !== undefined) {
      const remedy =
        token.kind === 'enrol' ? 'make another with fairlead token create enrol' : 'ask an administrator for another';
      throw new FairleadError('UNAUTHENTICATED', `token ${token.id} ${reason}; ${remedy}`);
    }
  }

  #worthlessBecause(token: TokenState): string | undefined {
    if (token.revoked) return 'was revoked';
    if (token.expiresAtMs !== undefined && token.expiresAtMs <= this.#now()) return 'has expired';
    if (token.usesLeft === 0) return 'is used up';
    return undefined;
  }

  /** What expired long ago goes at once; what is worthless otherwise stays to be looked at until its place is needed. */
  async #makeRoom(): Promise<void> {
    const tokens = await this.#store.collection(TOKENS).list();
    const isFull = tokens.length >= MAX_TOKENS;
    const removable = tokens.filter(({ value }) =>
      isFull ? this.#worthlessBecause(value) !== undefined : (value.expiresAtMs ?? Infinity) < this.#now() - KEEP_EXPIRED_MS,
    );
    await this.#remove(removable);
    if (tokens.length - removable.length >= MAX_TOKENS) {
      throw new FairleadError('LIMIT_EXCEEDED', `the hub has ${MAX_TOKENS} tokens; revoke some that are not needed`);
    }
  }

  async #remove(tokens: ReadonlyArray<Stored<TokenState>>): Promise<void> {
    await Promise.all(tokens.map(({ value, revision }) => this.#store.collection(TOKENS).remove(value.id, revision)));
  }
}

function tokenRecord(token: TokenState): Result<'token.create'>['record'] {
  return {
    id: token.id,
    kind: token.kind,
    ...(token.role === undefined ? {} : { role: token.role }),
    ...(token.labels === undefined ? {} : { labels: token.labels }),
    description: token.description,
    createdAt: new Date(token.createdAtMs).toISOString(),
    ...(token.expiresAtMs === undefined ? {} : { expiresAt: new Date(token.expiresAtMs).toISOString() }),
    ...(token.usesLeft === undefined ? {} : { usesLeft: token.usesLeft }),
    revoked: token.revoked,
  };
}
