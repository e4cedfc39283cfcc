/**
 * What the operator sessions of one token may take of what all share, places and memory of streams, so that whoever has a token, or has stolen
 * one, keeps nobody else out.
 */
import { FairleadError } from '../../shared/errors.ts';
import { PROCESS_POOL_BYTES } from '../../shared/mux/limits.ts';
import { MemoryPool, processPool } from '../../shared/mux/pool.ts';

const SHARE_OF_PLACES = 3 / 4;
const SHARE_OF_MEMORY = 1 / 2;

interface Share {
  readonly pool: MemoryPool;
  sessions: number;
}

export class TokenShares {
  readonly #maxSessions: number;
  readonly #shares = new Map<string, Share>();

  /** `places` are there for the sessions of all tokens. */
  constructor(places: number) {
    this.#maxSessions = Math.ceil(places * SHARE_OF_PLACES);
  }

  /** @throws FairleadError LIMIT_EXCEEDED when the token has as many sessions as it may have */
  requirePlace(tokenId: string): void {
    if ((this.#shares.get(tokenId)?.sessions ?? 0) < this.#maxSessions) return;
    const message = `${this.#maxSessions} operators with this token are connected, and no token may have more; end some, or use another token`;
    throw new FairleadError('LIMIT_EXCEEDED', message);
  }

  /** Counts one more session. The pool that its streams share with those of the token's other sessions. */
  begin(tokenId: string): MemoryPool {
    const share = this.#shares.get(tokenId) ?? {
      pool: new MemoryPool(PROCESS_POOL_BYTES * SHARE_OF_MEMORY, processPool),
      sessions: 0,
    };
    share.sessions += 1;
    this.#shares.set(tokenId, share);
    return share.pool;
  }

  /** A share without sessions is forgotten when its streams, too, have given everything back: some outlive their line for a while. */
  end(tokenId: string): void {
    const share = this.#shares.get(tokenId);
    if (share === undefined) return;
    share.sessions -= 1;
    for (const [id, { sessions, pool }] of this.#shares) if (sessions === 0 && pool.usedBytes === 0) this.#shares.delete(id);
  }
}
