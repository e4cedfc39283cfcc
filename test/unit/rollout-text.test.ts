/** How rollouts are shown to people. */
import { describe, expect, it } from 'vitest';
import { durationText, progressLine, summaryLines, waveText } from '../../cli/rollout-text.ts';
import type { RolloutSummary } from '../../shared/protocol/rollout-status.ts';

const SUMMARY: RolloutSummary = {
  rollout: 'r1',
  name: '',
  status: 'running',
  startedBy: 'alice',
  startedAt: '2026-01-01T00:00:00.000Z',
  revision: 'r',
  hostsDigest: 'd',
  wave: 1,
  waves: 3,
  stage: 'hosts',
  hosts: 10,
  phases: { pending: 4, changing: 2, done: 3, failed: 1 },
  failures: { unhealthy: 1 },
  inFlight: 2,
  window: 4,
  maxInFlight: 8,
  seq: 42,
};

describe('a rollout on one line', () => {
  it('shows how far it is, and what went wrong', () => {
    expect(progressLine(SUMMARY)).toBe('r1  running  wave 2/3  [############..................]  4/10  2 under way  1 failed');
  });

  it('leaves a narrow terminal the figures rather than the bar', () => {
    const narrow = progressLine(SUMMARY, 60);
    expect(narrow).toBe('r1  running  wave 2/3  [##....]  4/10  2 under way  1 failed');
    expect(narrow).toHaveLength(60);
  });

  it('says why it does not go on', () => {
    const paused = { ...SUMMARY, status: 'paused' as const, paused: { by: 'threshold', reason: '2 of 9 hosts failed' } };
    expect(progressLine(paused)).toContain('(2 of 9 hosts failed)');
    expect(progressLine({ ...SUMMARY, blocked: 'the disruption budget is used up' })).toContain(
      '(the disruption budget is used up)',
    );
  });

  it('counts those that are back on the way back', () => {
    const back = { ...SUMMARY, status: 'rolling-back' as const, phases: { restored: 5, undoing: 1, done: 4 } };
    expect(progressLine(back)).toContain('[###############...............]  5/10');
  });
});

describe('a rollout in full', () => {
  it('has a line for each thing that there is to say', () => {
    const lines = Object.fromEntries(summaryLines(SUMMARY));
    expect(lines).toMatchObject({
      hosts: '10: 4 pending, 2 changing, 3 done, 1 failed',
      failures: '1 unhealthy',
      wave: '2 of 3, hosts',
      'under way': '2 of 4 at once',
    });
    expect([lines['paused'], lines['waits'], lines['ended']]).toEqual([undefined, undefined, undefined]);
  });

  it('tells of a wave of a plan what its gate compares', () => {
    const wave = { wave: 0, hosts: 3, zones: { a: 3 }, durationMs: 90_000 };
    expect(waveText(wave)).toBe('3 hosts, about 90s');
    expect(waveText({ ...wave, compared: { changed: 3, unchanged: 20 } })).toBe(
      '3 hosts, about 90s, then 3 are compared with 20 unchanged',
    );
  });

  it('tells times as people do', () => {
    expect([0, 90_000, 600_000, 5_400_000, 9_000_000].map(durationText)).toEqual(['0s', '90s', '10m', '90m', '2h 30m']);
  });
});
