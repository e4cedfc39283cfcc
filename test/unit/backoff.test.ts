import { describe, expect, it } from 'vitest';
import { Backoff } from '../../shared/backoff.ts';

/** The largest value Math.random can give, so that a wait is its ceiling. */
const almostOne = () => 1 - Number.EPSILON;

describe('Backoff', () => {
  it('doubles its ceiling from half a second to a minute', () => {
    const backoff = new Backoff({ random: almostOne });
    const waits = Array.from({ length: 10 }, () => Math.round(backoff.failed()));
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  });

  it('waits anything from nothing to the ceiling', () => {
    expect(new Backoff({ random: () => 0 }).failed()).toBe(0);
    expect(new Backoff({ random: () => 0.5 }).failed()).toBe(250);
  });

  it('waits at most twice as long as the other side has been away, and half a second at least', () => {
    const backoff = new Backoff({ random: almostOne });
    for (let i = 0; i < 8; i++) backoff.failed();
    expect([0, 100, 5_000, 3_600_000].map((awayMs) => Math.round(backoff.failed(0, awayMs)))).toEqual([500, 500, 10_000, 60_000]);
  });

  it('starts again only after the connection held for half a minute', () => {
    const backoff = new Backoff({ random: almostOne });
    for (let i = 0; i < 5; i++) backoff.failed();
    expect(Math.round(backoff.failed(29_999))).toBe(16_000);
    expect(Math.round(backoff.failed(30_000))).toBe(500);
    expect(backoff.failures).toBe(1);
  });

  it('waits next to nothing for a connection that is missed, once while it is healthy', () => {
    const backoff = new Backoff({ random: almostOne });
    const missed = (upMs: number) => Math.round(backoff.lost(upMs, true));
    expect([missed(30_000), missed(100), missed(29_999), missed(30_000)]).toEqual([50, 500, 500, 50]);
    expect(Math.round(backoff.lost(30_000, false))).toBe(500);
    expect(Math.round(new Backoff({ maxMs: 20, random: almostOne }).lost(1, true))).toBe(20);
  });

  it('goes on after such a wait as if it had not been', () => {
    const backoff = new Backoff({ random: almostOne });
    backoff.lost(30_000, true);
    expect([50, 550, 1_650].map((awayMs) => Math.round(backoff.failed(0, awayMs)))).toEqual([500, 1100, 3300]);
  });

  it('takes a time that it is told as the least, and spreads beyond it', () => {
    const backoff = new Backoff({ random: () => 0.5 });
    expect(backoff.told(3000, 1000)).toBe(3500);
    expect(backoff.failures).toBe(0);
  });

  it('stays finite after very many failures', () => {
    const backoff = new Backoff({ random: almostOne });
    for (let i = 0; i < 5000; i++) backoff.failed();
    expect(backoff.failed()).toBeLessThanOrEqual(60_000);
  });
});
