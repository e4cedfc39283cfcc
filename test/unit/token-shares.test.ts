import { describe, expect, it } from 'vitest';
import { TokenShares } from '../../hub/sessions/token-shares.ts';
import { PROCESS_POOL_BYTES } from '../../shared/mux/limits.ts';
import { processPool } from '../../shared/mux/pool.ts';

describe('the sessions of one token', () => {
  it('have three quarters of the places, and those of another token the rest', () => {
    const shares = new TokenShares(4);
    for (let place = 0; place < 3; place++) {
      shares.requirePlace('stolen');
      shares.begin('stolen');
    }
    expect(() => shares.requirePlace('stolen')).toThrow('3 operators with this token are connected');
    shares.requirePlace('other');
    shares.end('stolen');
    shares.requirePlace('stolen');
  });

  it('have one place where there is one', () => {
    const shares = new TokenShares(1);
    shares.requirePlace('only');
    shares.begin('only');
    expect(() => shares.requirePlace('only')).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }));
  });

  it('share half of the memory for streams, and have it until it is given back', () => {
    const shares = new TokenShares(4);
    const half = PROCESS_POOL_BYTES / 2;
    const before = processPool.usedBytes;
    const pool = shares.begin('stolen');
    expect(pool.reserve(half)).toBe(true);
    expect(shares.begin('stolen').reserve(1)).toBe(false);
    shares.end('stolen');
    shares.end('stolen');
    expect(shares.begin('stolen').reserve(1)).toBe(false);
    shares.end('stolen');
    pool.release(half);
    shares.begin('other');
    shares.end('other');
    expect(shares.begin('stolen').usedBytes).toBe(0);
    expect(processPool.usedBytes).toBe(before);
  });
});
