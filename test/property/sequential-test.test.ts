/** The sequential test of failures: as seldom wrong as it says, and soon right. Simulated with a seed, so that it is the same each time. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mostFailures } from '../../hub/rollout/core/sequential-test.ts';
import type { Sequential } from '../../shared/protocol/rollout-spec.ts';
import { fleetOf, RolloutSim } from '../support/rollout-sim.ts';

const RULE: Sequential = { expected: '1%', tooMany: '5%', falseAlarms: '1%' };
const ROLLOUTS = 5_000;
const HOSTS = 600;

/** Uniform in [0, 1), from a seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** After how many hosts it trips, of a share that fails; undefined when it never does. Looked at after each host. */
function tripsAfter(rule: Sequential, share: number, hosts: number, random: () => number): number | undefined {
  let failures = 0;
  for (let started = 1; started <= hosts; started++) {
    if (random() >= share) continue;
    failures += 1;
    if (failures > mostFailures(rule, started)) return started;
  }
  return undefined;
}

function trips(rule: Sequential, share: number, hosts: number): (number | undefined)[] {
  const random = randomFrom(7);
  return Array.from({ length: ROLLOUTS }, () => tripsAfter(rule, share, hosts, random));
}

describe('a sequential test', () => {
  it.each([
    ['1%', 0.01],
    ['5%', 0.05],
    ['20%', 0.2],
  ])(
    'is wrong no more often than %s where that is said, of rollouts with just the expected share of failures',
    (falseAlarms, most) => {
      const wrong = trips({ ...RULE, falseAlarms }, 0.01, HOSTS).filter((after) => after !== undefined).length;
      expect(wrong / ROLLOUTS).toBeLessThanOrEqual(most);
      // It does not hold its bound by never tripping.
      expect(wrong / ROLLOUTS).toBeGreaterThan(most / 10);
    },
  );

  it('stops a change of which too many fail, and one of which many do after a few hosts', () => {
    const quantile = (share: number, part: number): number => {
      const after = trips(RULE, share, HOSTS).map((host) => host ?? Number.POSITIVE_INFINITY);
      return after.toSorted((a, b) => a - b)[Math.floor(part * ROLLOUTS)] ?? 0;
    };
    expect(quantile(0.05, 0.99)).toBeLessThan(500);
    expect(quantile(0.2, 0.5)).toBeLessThanOrEqual(20);
    expect(quantile(0.5, 0.99)).toBeLessThanOrEqual(20);
    expect(quantile(1, 0.99)).toBe(3);
  });

  it('trips exactly where the likelihoods are as far apart as that', () => {
    const shares = fc
      .tuple(fc.integer({ min: 1, max: 989 }), fc.integer({ min: 1, max: 989 }), fc.integer({ min: 1, max: 500 }))
      .filter(([a, b]) => a !== b);
    fc.assert(
      fc.property(shares, fc.integer({ min: 1, max: 500 }), ([a, b, alarms], hosts) => {
        const [p0, p1] = [Math.min(a, b) / 1000, Math.max(a, b) / 1000];
        const rule = { expected: `${p0 * 100}%`, tooMany: `${p1 * 100}%`, falseAlarms: `${alarms / 10}%` };
        const most = mostFailures(rule, hosts);
        const logRatio = (failures: number) =>
          failures * Math.log(p1 / p0) + (hosts - failures) * Math.log((1 - p1) / (1 - p0)) - Math.log(1000 / alarms);
        expect(logRatio(most)).toBeLessThan(1e-6);
        expect(logRatio(most + 1)).toBeGreaterThan(-1e-6);
        // Each further host that makes it leaves room for as many failures at least.
        expect(mostFailures(rule, hosts + 1)).toBeGreaterThanOrEqual(most);
      }),
    );
  });
});

describe('a rollout with a sequential test', () => {
  const FREE = { budget: { maxUnavailable: '100%', perZone: '100%' }, waves: [{ hosts: '100%' as const }], maxInFlight: 20 };
  const thresholds = [{ sequential: RULE, action: 'rollback' as const }];

  it('is taken back after few of its hosts when all fail, and says why', () => {
    const sim = new RolloutSim(
      { ...FREE, thresholds },
      fleetOf(200, 1, () => ({ behaviour: 'failed' })),
    ).run();
    expect(sim.status).toBe('rolled-back');
    expect(sim.facts('host-started').length).toBeLessThan(30);
    expect(sim.state.stopped).toMatchObject({
      by: 'threshold',
      reason: expect.stringMatching(
        /^\d hosts? failed|^\d of \d+ hosts failed in this rollout, significantly more than 1%: \d may$/,
      ),
    });
  });

  it('goes through where about as few fail as expected, also when those end before any other', () => {
    const hosts = fleetOf(200, 1, (index) => (index % 70 === 0 ? { behaviour: 'failed', tookMs: 1 } : { tookMs: 5_000 }));
    const sim = new RolloutSim({ ...FREE, maxInFlight: 200, thresholds }, hosts);
    sim.advance(1000);
    // Three of the three that have ended, and of two hundred that were started.
    expect([sim.hostsIn('failed').length, sim.hostsIn('done').length]).toEqual([3, 0]);
    expect(sim.run().status).toBe('completed');
  });

  it('begins anew with each wave where it is of the wave', () => {
    const waves = [{ hosts: 100 }, { hosts: 100 }, { hosts: '100%' as const }];
    const failingLate = () => {
      const sim = new RolloutSim(
        { ...FREE, waves, thresholds: [{ sequential: RULE, of: 'wave' as const, action: 'rollback' as const }] },
        fleetOf(300),
      );
      for (const { host, wave } of sim.state.hosts.values())
        if (wave === 1) Object.assign(sim.hosts.get(host) ?? {}, { behaviour: 'failed' });
      return sim.run();
    };
    const sim = failingLate();
    expect(sim.status).toBe('rolled-back');
    expect(sim.state.stopped?.reason).toContain('in wave 1');
    expect(sim.facts('host-started').length).toBeLessThan(140);
  });
});
