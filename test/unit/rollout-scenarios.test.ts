/** Published failures of other rollout engines, played to ours. The table of docs/reference/rollouts.md names each test. */
import { describe, expect, it } from 'vitest';
import { fleetOf, RolloutSim } from '../support/rollout-sim.ts';

/** Nothing but the rule at hand stands in the way. */
const FREE = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' as const, maxInFlight: 10 } };
const ALL = [{ hosts: '100%' }];

describe('what has gone wrong elsewhere', () => {
  it('failures spread thinly over the waves stop it as surely as failures in a row', () => {
    const hosts = fleetOf(100, 1, (index) => (index % 12 === 0 ? { behaviour: 'failed' } : {}));
    const waves = Array.from({ length: 10 }, () => ({ hosts: '10%' }));
    const sim = new RolloutSim({ ...FREE, waves, thresholds: [{ max: 4 }] }, hosts).run();
    expect([sim.status, sim.state.paused?.by]).toEqual(['paused', 'threshold']);
    expect(sim.hostsIn('failed')).toHaveLength(5);
    expect(sim.hostsIn('pending').length).toBeGreaterThan(20);
  });

  it('a broken change does not go over the whole fleet before anybody notices', () => {
    const hosts = fleetOf(100, 4, () => ({ behaviour: 'failed' }));
    const sim = new RolloutSim({ ...FREE, maxInFlight: 50 }, hosts).run();
    expect(sim.facts('host-started')).toHaveLength(1);
    expect(sim.status).toBe('paused');
  });

  it('the limit of failures holds with many hosts under way at once', () => {
    const hosts = fleetOf(100, 4, () => ({ behaviour: 'failed' }));
    const spec = { ...FREE, maxInFlight: 50, waves: ALL, strict: true, thresholds: [{ max: 3 }] };
    const sim = new RolloutSim(spec, hosts).run(60_000);
    expect(sim.hostsIn('failed')).toHaveLength(3);
    expect(sim.facts('host-started')).toHaveLength(3);
    expect(sim.blocked).toContain('strict');
  });

  it('a paused rollout can be aborted, and then has ended', () => {
    const sim = new RolloutSim({ ...FREE, waves: ALL, maxInFlight: 2 }, fleetOf(10));
    sim.order({ kind: 'pause' });
    sim.order({ kind: 'abort' });
    expect(sim.run().status).toBe('aborted');
    expect(sim.hostsIn('not-started').length).toBeGreaterThan(5);
  });

  it('nothing is analysed on the way back', () => {
    const spec = {
      ...FREE,
      waves: ALL,
      health: { checks: [{ kind: 'vm-state' as const }], minHealthyMs: 60_000 },
      maxInFlight: 10,
    };
    const sim = new RolloutSim(spec, fleetOf(10));
    sim.advance(90_000);
    sim.order({ kind: 'rollback', except: [] });
    const begunAt = sim.t;
    expect(sim.run().status).toBe('rolled-back');
    expect(sim.t - begunAt).toBeLessThan(5_000);
  });

  it('a gate that fails asks a person, and one that cannot tell never passes for one that failed', () => {
    const gate = { checks: [{ kind: 'webhook' as const, url: 'http://gate.example/' }], failures: 1, deadlineMs: 10_000 };
    const waves = [{ hosts: 1, gate }, { hosts: '100%' }];
    const failing = new RolloutSim({ ...FREE, waves }, fleetOf(5));
    failing.gateAnswer = 'failure';
    expect([failing.run().status, failing.state.paused?.by]).toEqual(['paused', 'gate']);
    const unsure = new RolloutSim(
      { ...FREE, waves: [{ hosts: 1, gate: { ...gate, onFailure: 'rollback' as const } }, { hosts: '100%' }] },
      fleetOf(5),
    );
    unsure.gateAnswer = 'inconclusive';
    expect([unsure.run().status, unsure.state.paused?.reason]).toEqual(['paused', expect.stringContaining('cannot be told')]);
    unsure.gateAnswer = 'success';
    unsure.order({ kind: 'resume' });
    expect(unsure.run().status).toBe('completed');
  });

  it('taking back goes through no canary and no waves, newest first and twice as fast', () => {
    const waves = [{ hosts: 1, soakMs: 60_000 }, { hosts: 2, soakMs: 60_000 }, { hosts: '100%' }];
    const sim = new RolloutSim({ ...FREE, waves, maxInFlight: 3 }, fleetOf(12)).run();
    expect(sim.status).toBe('completed');
    const order = sim.facts('host-started').map(({ host }) => host);
    sim.order({ kind: 'rollback', except: [] });
    expect(sim.state.undoing.size).toBe(6);
    const begunAt = sim.t;
    expect(sim.run().status).toBe('rolled-back');
    expect(sim.facts('undo-started').map(({ host }) => host)).toEqual(order.toReversed());
    expect(sim.t - begunAt).toBeLessThan(5_000);
  });

  it('one bad host late in the roll takes nothing back that is well', () => {
    const hosts = fleetOf(100, 1, () => ({}));
    const spec = { ...FREE, waves: ALL, thresholds: [{ max: '2%', minExecuted: 50, action: 'rollback' as const }] };
    const sim = new RolloutSim(spec, hosts);
    while (sim.hostsIn('done').length < 77) sim.advance(100, 100);
    const late = sim.hosts.get(sim.hostsIn('pending')[0] ?? '');
    if (late !== undefined) Object.assign(late, { behaviour: 'failed' });
    expect(sim.run().status).toBe('completed');
    expect([sim.hostsIn('done').length, sim.hostsIn('failed').length, sim.facts('rollback-begun').length]).toEqual([99, 1, 0]);
  });

  it('a host that comes late to its turn changes nothing about what goes on by itself', () => {
    const sim = new RolloutSim({ ...FREE, waves: [{ hosts: 2 }, { hosts: '100%' }] }, fleetOf(6));
    const [first] = sim.facts('planned')[0]?.plan.hosts ?? [];
    const name = first?.host ?? '';
    const again = new RolloutSim({ ...FREE, waves: [{ hosts: 2 }, { hosts: '100%' }], approval: 'anyone' }, fleetOf(6));
    again.setUp(name, false);
    again.order({ kind: 'approve' });
    again.advance(120_000);
    expect([again.status, again.state.wave]).toEqual(['running', 0]);
    again.setUp(name, true);
    expect(again.run().status).toBe('completed');
    expect(again.facts('promoted')).toEqual([]);
  });

  it('a slow host holds up nobody but itself', () => {
    const hosts = fleetOf(40, 1, (index) => ({ tookMs: index === 0 ? 300_000 : 1000 }));
    const sim = new RolloutSim({ ...FREE, waves: ALL, maxInFlight: 4 }, hosts);
    sim.advance(30_000);
    expect(sim.hostsIn('done')).toHaveLength(39);
    expect(sim.run().status).toBe('completed');
  });

  it('the canary is changed once and serves on while the others are changed', () => {
    const sim = new RolloutSim({ ...FREE, waves: [{ hosts: 1 }, { hosts: '100%' }] }, fleetOf(20)).run();
    const canary = sim.facts('host-started')[0]?.host;
    expect(sim.facts('host-started').filter(({ host }) => host === canary)).toHaveLength(1);
    expect(sim.begun.filter(({ key }) => key.includes(` ${canary} `)).map(({ key }) => key)).toEqual([`change ${canary} 1`]);
    expect(sim.status).toBe('completed');
  });

  it('a rollout that makes no progress is acted upon, not just reported', () => {
    const hosts = fleetOf(10, 1, (index) => (index < 5 ? {} : { behaviour: 'silent' }));
    const spec = { ...FREE, waves: ALL, progress: { withinMs: 60_000, action: 'rollback' as const }, hostTimeoutMs: 600_000 };
    const sim = new RolloutSim(spec, hosts);
    sim.advance(90_000);
    expect(sim.facts('rollback-begun')[0]?.by).toEqual({ kind: 'rule', rule: 'progress' });
  });

  it('a host that fails is given up, and not tried again unless somebody says so', () => {
    const hosts = fleetOf(5, 1, (index) => (index === 0 ? { behaviour: 'ok-later' } : {}));
    const sim = new RolloutSim({ ...FREE, waves: ALL, thresholds: [{ max: 1 }] }, hosts).run();
    expect([sim.status, sim.hostsIn('failed')]).toEqual(['completed', ['h0']]);
    expect(sim.facts('host-started').filter(({ host }) => host === 'h0')).toHaveLength(1);
    sim.order({ kind: 'retry-failed' });
    expect(sim.run().hostsIn('done')).toHaveLength(5);
  });

  it('hosts that cannot be reached are no failures of the change, and are not changed behind its back', () => {
    const spec = { ...FREE, waves: ALL, unreachable: { policy: 'wait' as const, waitMs: 60_000 }, approval: 'anyone' as const };
    const sim = new RolloutSim(spec, fleetOf(20));
    for (const name of ['h1', 'h2', 'h3']) sim.setUp(name, false);
    sim.order({ kind: 'approve' });
    expect(sim.run().status).toBe('completed');
    expect([sim.hostsIn('failed'), sim.hostsIn('skipped').toSorted()]).toEqual([[], ['h1', 'h2', 'h3']]);
    for (const name of ['h1', 'h2', 'h3']) sim.setUp(name, true);
    sim.advance(60_000);
    expect(['h1', 'h2', 'h3'].map((name) => sim.hosts.get(name)?.value)).toEqual(['old', 'old', 'old']);
  });
});

describe('rules and people', () => {
  const thresholds = [{ max: 0 }, { max: 1, action: 'rollback' as const }];
  const spec = { ...FREE, waves: ALL, thresholds, approval: 'anyone' as const };
  const hosts = () => fleetOf(6, 1, (index) => ({ behaviour: index < 3 ? 'failed' : 'ok', tookMs: 1000 + index * 1000 }));

  it('a pause by a rule leaves the graver rules at work', () => {
    const sim = new RolloutSim(spec, hosts());
    sim.order({ kind: 'approve' });
    expect(sim.run().status).toBe('paused');
    sim.advance(5_000);
    expect(sim.facts('rollback-begun')[0]?.by).toEqual({ kind: 'rule', rule: 'threshold' });
  });

  it('while a person has paused it, no rule takes hosts back', () => {
    const sim = new RolloutSim(spec, hosts());
    sim.order({ kind: 'approve' });
    expect(sim.run().status).toBe('paused');
    sim.order({ kind: 'pause' }, 'bob');
    sim.advance(60_000);
    expect([sim.status, sim.state.paused?.by, sim.hostsIn('failed').length]).toEqual(['paused', 'bob', 3]);
    expect(sim.facts('rollback-begun')).toEqual([]);
  });
});

describe('time', () => {
  it('that a host was held by a pause does not count against it', () => {
    const sim = new RolloutSim({ ...FREE, waves: ALL, hostTimeoutMs: 60_000, approval: 'anyone' }, fleetOf(2));
    sim.order({ kind: 'approve' });
    sim.order({ kind: 'pause' });
    sim.advance(3_600_000);
    expect(sim.hostsIn('held')).toHaveLength(2);
    sim.order({ kind: 'resume' });
    expect([sim.run().status, sim.hostsIn('done').length]).toEqual(['completed', 2]);
  });

  it('that a window is closed or changes are frozen is no lack of progress', () => {
    const spec = { ...FREE, waves: ALL, progress: { withinMs: 60_000, action: 'abort' as const }, approval: 'anyone' as const };
    const sim = new RolloutSim(spec, fleetOf(2));
    sim.closed = 'no change window is open';
    sim.order({ kind: 'approve' });
    sim.advance(3_600_000);
    expect([sim.status, sim.blocked]).toEqual(['running', expect.stringContaining('no change window')]);
    sim.closed = undefined;
    expect(sim.run().status).toBe('completed');
  });

  it('after the last wave is for hosts that come late, as long as was said', () => {
    const sim = new RolloutSim({ ...FREE, waves: ALL, lateJoinersForMs: 60_000 }, fleetOf(2));
    sim.advance(30_000);
    expect(sim.status).toBe('awaiting-late-joiners');
    sim.addJoiner('late', { zone: 'a' });
    expect(sim.run().status).toBe('completed');
    expect(sim.hosts.get('late')?.value).toBe('new 1');
    expect(sim.state.hosts.get('late')?.wave).toBe(1);
  });
});
