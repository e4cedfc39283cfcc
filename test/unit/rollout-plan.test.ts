/** Plans of rollouts: order, strata, waves, forecast; change windows; command ids; merge patches. */
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { checkControlPlan, checkSpec } from '../../hub/rollout/check-spec.ts';
import { deriveCommandId } from '../../hub/rollout/command-id.ts';
import { isOpen } from '../../hub/rollout/core/change-windows.ts';
import { forecast } from '../../hub/rollout/core/forecast.ts';
import { type Candidate, orderHosts } from '../../hub/rollout/core/host-order.ts';
import { planRollout } from '../../hub/rollout/core/plan.ts';
import { mergePatch } from '../../hub/rollout/on-host/merge-patch.ts';
import { timeOfCommandId } from '../../shared/command-id.ts';
import { RolloutSpec, type RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';

const specOf = (more: Partial<RolloutSpecInput> = {}): RolloutSpec =>
  v.parse(RolloutSpec, { selector: {}, steps: [{ kind: 'vm' }], ...more });

/** One step that calls it, approved by somebody. */
const callOf = (method: string, params: Record<string, unknown> = {}): Partial<RolloutSpecInput> => ({
  steps: [{ kind: 'call', method, params }],
  approval: 'anyone',
});

/** Of 100: 70 in zone a on new hardware, 20 in zone b, 8 there with an old agent, 2 of a kind of their own. */
const MIXED: Candidate[] = Array.from({ length: 100 }, (_, index) => ({
  host: `h${index}`,
  zone: index < 70 ? 'a' : 'b',
  agentVersion: index >= 90 && index < 98 ? '1.0' : '1.1',
  hardware: index >= 98 ? 'odd' : 'new',
}));
const kindOf = ({ zone, agentVersion, hardware }: Candidate): string => `${zone} ${agentVersion} ${hardware}`;

function countsOf(hosts: readonly Candidate[]): Record<string, number> {
  return Object.fromEntries([...Map.groupBy(hosts, kindOf)].map(([kind, members]) => [kind, members.length]));
}

describe('the order of hosts', () => {
  it('is the same for the same rollout, however the hosts were found, and another for another', () => {
    const names = (id: string, hosts: readonly Candidate[]) => orderHosts(id, hosts).map(({ host }) => host);
    expect(names('r1', MIXED.toReversed())).toEqual(names('r1', MIXED));
    expect(names('r2', MIXED)).not.toEqual(names('r1', MIXED));
  });

  it('begins with one of each kind, the most frequent first, and goes on with each by its share', () => {
    const order = orderHosts('r1', MIXED);
    expect(order.slice(0, 4).map(kindOf)).toEqual(['a 1.1 new', 'b 1.1 new', 'b 1.0 new', 'b 1.1 odd']);
    expect(countsOf(order.slice(0, 50))).toEqual({ 'a 1.1 new': 35, 'b 1.1 new': 10, 'b 1.0 new': 4, 'b 1.1 odd': 1 });
  });
});

describe('a plan', () => {
  it('has waves of the size that was asked for, rounded up, and the rest in the last', () => {
    const spec = specOf({ waves: [{ hosts: 3 }, { hosts: '2.5%' }, { hosts: '1%', minCount: 5 }, { hosts: '10%' }] });
    const { hosts } = planRollout('r1', spec, MIXED);
    expect([...Map.groupBy(hosts, ({ wave }) => wave).values()].map(({ length }) => length)).toEqual([3, 3, 5, 89]);
  });

  it('takes no more of a zone into a wave than may be, and those passed over come next', () => {
    const spec = specOf({ waves: [{ hosts: 10, perZoneMax: 2 }, { hosts: '100%' }] });
    const { hosts } = planRollout('r1', spec, MIXED);
    const first = hosts.filter(({ wave }) => wave === 0);
    expect(first.map(({ zone }) => zone)).toEqual(['a', 'a', 'b', 'b']);
    expect(new Set(hosts.map(({ host }) => host)).size).toBe(100);
  });

  it('says by its digest which hosts it is for, whatever their waves', () => {
    const one = planRollout('r1', specOf(), MIXED);
    const other = planRollout('r2', specOf({ waves: [{ hosts: '50%' }, { hosts: '100%' }] }), MIXED.toReversed());
    expect(other.hostsDigest).toBe(one.hostsDigest);
    expect(other.revision).not.toBe(one.revision);
    expect(planRollout('r1', specOf(), MIXED.slice(1)).hostsDigest).not.toBe(one.hostsDigest);
  });

  it('foretells the worst case of each zone and the time it takes', () => {
    const spec = specOf({
      maxInFlight: 10,
      budget: { maxUnavailable: 8, perZone: '10%' },
      waves: [{ hosts: 4, soakMs: 60_000 }, { hosts: '100%' }],
      expectedHostMs: 10_000,
    });
    const { zones, worstUnavailable, waves, durationMs, canary } = forecast(spec, planRollout('r1', spec, MIXED));
    expect(zones).toEqual([
      { zone: 'a', hosts: 70, worstUnavailable: 7 },
      { zone: 'b', hosts: 30, worstUnavailable: 3 },
    ]);
    expect(worstUnavailable).toBe(7);
    expect(canary).toHaveLength(4);
    // One host of zone a and three of zone b; then 69 by sevens and 27 by threes.
    expect(waves.map((wave) => wave.durationMs)).toEqual([2 * 10_000 + 60_000, (10 + 9) * 10_000]);
    expect(durationMs).toBe(270_000);
  });

  it('foretells how many hosts the gate of a wave compares', () => {
    const gate = {
      checks: [
        { kind: 'control' as const, hosts: 20 },
        { kind: 'control' as const, hosts: 30 },
      ],
    };
    const spec = specOf({ waves: [{ hosts: 5, gate }, { hosts: 80, gate }, { hosts: '100%' }] });
    const { waves } = forecast(spec, planRollout('r1', spec, MIXED));
    expect(waves.map(({ compared }) => compared)).toEqual([
      { changed: 5, unchanged: 30 },
      { changed: 30, unchanged: 15 },
      undefined,
    ]);
  });

  it('foretells among those away who has failed before it stops, and whom a rule takes back', () => {
    const worst = (more: Partial<RolloutSpecInput>) => {
      const wide = { maxInFlight: 4, budget: { maxUnavailable: 30, perZone: 30 }, waves: [{ hosts: '100%' as const }] };
      const spec = specOf({ ...wide, ...more });
      const { zones, worstUnavailable } = forecast(spec, planRollout('r1', spec, MIXED));
      return [...zones.map((zone) => zone.worstUnavailable), worstUnavailable];
    };
    expect(worst({})).toEqual([4, 4, 4]);
    expect(worst({ thresholds: [{ max: 3 }] })).toEqual([7, 7, 7]);
    expect(worst({ thresholds: [{ max: 3 }], strict: true })).toEqual([3, 3, 3]);
    // Of shares, as many as may fail before a share says anything.
    expect(worst({ thresholds: [{ max: '2%', minExecuted: 10 }] })).toEqual([13, 13, 13]);
    expect(worst({ thresholds: [{ max: 3, action: 'rollback' }] })).toEqual([15, 15, 15]);
    expect(worst({ thresholds: [] })).toEqual([30, 30, 30]);
    const concurrent = { zones: { order: 'concurrent' as const, maxInFlight: 2 } };
    expect(worst({ ...concurrent, strict: true, thresholds: [{ max: 2, of: 'zone' }] })).toEqual([30, 30, 30]);
  });
});

/** Two waves, with a control group at the gate of one of them. */
const controlledAt = (wave: number, control: object = {}): Partial<RolloutSpecInput> => {
  const gate = { checks: [{ kind: 'control' as const, checks: [{ kind: 'vm-state' as const }], ...control }] };
  return { waves: [1, '100%'].map((hosts, index) => ({ hosts, ...(index === wave ? { gate } : {}) })) };
};

const sequentialOf = (sequential: object, more: Partial<RolloutSpecInput> = {}): Partial<RolloutSpecInput> => ({
  thresholds: [{ sequential: { expected: '1%', tooMany: '5%', ...sequential } }],
  ...more,
});

const healthOf = (url: string) => ({ checks: [{ kind: 'webhook' as const, url }] });

describe('a spec', () => {
  it.each([
    ['a call that cannot be taken back, without a person', { steps: [{ kind: 'call' as const, method: 'vm.start' }] }, 'undo'],
    ['a time zone that there is not', { windows: [{ timeZone: 'Middle/Earth', from: '01:00', to: '02:00' }] }, 'time zone'],
    ['a password in the address of a webhook', { health: healthOf('https://u:p@example.org/') }, 'password'],
    ['a name in the address of a gate', { waves: [{ hosts: 1, gate: healthOf('https://u@example.org/') }] }, 'password'],
    ['a method that there is not', callOf('vm.improve'), 'no method'],
    ['a method that may not be repeated', callOf('vm.reset'), 'repeated'],
    ['a method of the hub', callOf('host.list'), 'nothing that a host is called for'],
    ['params that the method does not take', callOf('vm.start', { machine: 'x' }), 'vm'],
    ['a control group after the last wave', controlledAt(1), 'let a further wave come after it'],
    ['a control group that needs more hosts than it asks', controlledAt(0, { hosts: 2 }), 'raise `hosts`, or lower `minHosts`'],
    ['a control group that would be asked nothing', controlledAt(0, { checks: undefined }), 'nothing to ask'],
    ['a password in what a control group is asked', controlledAt(0, healthOf('https://u:p@example.org/')), 'password'],
    ['a sequential test in strict mode', sequentialOf({}, { strict: true }), 'give the threshold a `max`'],
    ['a sequential test that expects no failure', sequentialOf({ expected: '0%' }), 'max: 0'],
    ['a sequential test between nothing and nothing', sequentialOf({ tooMany: '1%' }), 'more than 1% and less than 100%'],
    ['a sequential test of everything', sequentialOf({ tooMany: '100%' }), 'less than 100%'],
    ['a sequential test that is always wrong', sequentialOf({ falseAlarms: '100%' }), 'less than 100%'],
  ])('is refused with %s', (_what, more, why) => {
    expect(() => checkSpec(specOf(more), 'operator')).toThrow(why);
  });

  it('is taken with a control group that has hosts to compare with, and one that takes its questions from the health', () => {
    expect(() => checkSpec(specOf(controlledAt(0)), 'operator')).not.toThrow();
    const asked = { ...controlledAt(0, { checks: undefined }), health: { checks: [{ kind: 'vm-state' as const }] } };
    expect(() => checkSpec(specOf(asked), 'operator')).not.toThrow();
  });

  it('is refused for hosts that leave its control group too few', () => {
    const spec = specOf(controlledAt(0, { minHosts: 5 }));
    const planOf = (count: number) => planRollout('r1', spec, MIXED.slice(0, count));
    expect(() => checkControlPlan(spec, planOf(6))).not.toThrow();
    expect(() => checkControlPlan(spec, planOf(5))).toThrow('4 of the 5 hosts are left unchanged after wave 0');
  });

  it('is refused for whom its methods are not', () => {
    const spec = specOf(callOf('vm.start', { vm: 'web' }));
    expect(() => checkSpec(spec, 'viewer')).toThrow('needs the role operator');
    expect(() => checkSpec(spec, 'operator')).not.toThrow();
  });

  it('has amounts that are numbers or shares', () => {
    const isFine = (hosts: string) =>
      v.safeParse(RolloutSpec, { selector: {}, steps: [{ kind: 'vm' }], waves: [{ hosts }] }).success;
    expect(['10%', '0.5%', '100%', '100.5%', '101%', 'some', '10'].map(isFine)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('change windows', () => {
  const night = [{ timeZone: 'Europe/Berlin', days: ['fri' as const], from: '22:00', to: '04:00' }];

  it('are open by the clocks of their time zone, over midnight too', () => {
    const at = (text: string) => isOpen(night, 'a', Date.parse(text));
    // Friday the 3rd of July 2026; Berlin is two hours ahead then.
    expect([
      at('2026-07-03T19:59:00Z'),
      at('2026-07-03T20:00:00Z'),
      at('2026-07-04T01:59:00Z'),
      at('2026-07-04T02:00:00Z'),
    ]).toEqual([false, true, true, false]);
    expect([at('2026-07-02T21:00:00Z'), at('2026-07-03T01:00:00Z')]).toEqual([false, false]);
    // And one hour in winter.
    expect([at('2026-12-04T20:30:00Z'), at('2026-12-04T21:00:00Z')]).toEqual([false, true]);
  });

  it('hold for the zones that they name alone', () => {
    const windows = [{ ...night[0], timeZone: 'UTC', days: ['mon' as const], from: '00:00', to: '00:01', zones: ['b'] }];
    expect([isOpen(windows, 'a', 0), isOpen(windows, 'b', 0)]).toEqual([true, false]);
  });
});

describe('command ids', () => {
  it('are the same for the same command, others for others, and tell their time', () => {
    const id = deriveCommandId(1_790_000_000_000, ['r1', 'change', 'h1', 1, 'stop web']);
    expect(deriveCommandId(1_790_000_000_000, ['r1', 'change', 'h1', 1, 'stop web'])).toBe(id);
    expect(deriveCommandId(1_790_000_000_000, ['r1', 'change', 'h1', 2, 'stop web'])).not.toBe(id);
    expect(timeOfCommandId(id)).toBe(1_790_000_000_000);
  });
});

describe('merge patches', () => {
  it.each([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    [['a'], { x: 1 }, { x: 1 }],
  ])('turn %j with %j into %j (RFC 7396, appendix A)', (target, patch, result) => {
    expect(mergePatch(target, patch)).toEqual(result);
  });
});
