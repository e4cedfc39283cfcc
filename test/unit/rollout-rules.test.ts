/** What a spec can ask for besides waves: hosts out of reach, lack of progress, the rate, strict arithmetic, and what is taken back. On virtual time. */
import { describe, expect, it } from 'vitest';
import { fleetOf, RolloutSim } from '../support/rollout-sim.ts';

const FREE = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' as const, maxInFlight: 10 } };
const ALL = [{ hosts: '100%' }];

/** Of five hosts, two are away when it begins. */
function withTwoAway(unreachable: { policy: 'skip' | 'wait' | 'count-as-failure'; waitMs?: number }): RolloutSim {
  const spec = { ...FREE, waves: ALL, unreachable, thresholds: [{ max: 5 }], approval: 'anyone' as const };
  const sim = new RolloutSim(spec, fleetOf(5));
  for (const name of ['h1', 'h2']) sim.setUp(name, false);
  sim.order({ kind: 'approve' });
  return sim;
}

describe('a host that cannot be reached', () => {
  it('is passed over at once with skip', () => {
    const sim = withTwoAway({ policy: 'skip' });
    expect(
      sim
        .facts('host-passed-over')
        .map(({ host }) => host)
        .toSorted(),
    ).toEqual(['h1', 'h2']);
    expect([sim.run().status, sim.hostsIn('done').length, sim.hostsIn('failed')]).toEqual(['completed', 3, []]);
  });

  it('has until its time is over with wait, and its turn as soon as it is back', () => {
    const sim = withTwoAway({ policy: 'wait', waitMs: 60_000 });
    sim.advance(50_000);
    expect(sim.hostsIn('waiting').toSorted()).toEqual(['h1', 'h2']);
    sim.setUp('h1', true);
    expect(sim.run().status).toBe('completed');
    expect([sim.hostsIn('done').length, sim.hostsIn('skipped')]).toEqual([4, ['h2']]);
  });

  it('counts with count-as-failure, towards the thresholds as any other', () => {
    const sim = withTwoAway({ policy: 'count-as-failure' });
    expect(sim.run().status).toBe('completed');
    expect(sim.facts('host-failed').map(({ class: failure }) => failure)).toEqual(['unreachable', 'unreachable']);
    const strictly = new RolloutSim(
      {
        ...FREE,
        waves: ALL,
        unreachable: { policy: 'count-as-failure' },
        approval: 'anyone',
        thresholds: [{ max: 0, failures: 'unreachable' }],
      },
      fleetOf(5),
    );
    strictly.setUp('h1', false);
    strictly.order({ kind: 'approve' });
    expect([strictly.run().status, strictly.state.paused?.by]).toEqual(['paused', 'threshold']);
  });

  it('can be left out by a person while it is waited for', () => {
    const sim = withTwoAway({ policy: 'wait', waitMs: 3_600_000 });
    sim.advance(30_000);
    for (const host of ['h1', 'h2']) sim.order({ kind: 'skip', host });
    sim.advance(2_000);
    expect(sim.status).toBe('completed');
    sim.setUp('h1', true);
    sim.advance(10_000);
    expect(sim.hosts.get('h1')?.value).toBe('old');
  });
});

describe('a lack of progress', () => {
  it.each(['pause', 'abort', 'rollback'] as const)('is answered with %s, and never sooner than was said', (action) => {
    const silent = fleetOf(4, 1, (index) => (index === 0 ? {} : { behaviour: 'silent' }));
    const progress = { withinMs: 60_000, action };
    const sim = new RolloutSim({ ...FREE, waves: ALL, progress, hostTimeoutMs: 3_600_000 }, silent);
    sim.advance(55_000);
    expect(sim.status).toBe('running');
    sim.advance(10_000);
    const facts = { pause: 'paused', abort: 'aborted', rollback: 'rollback-begun' } as const;
    expect(sim.facts(facts[action])).toMatchObject([{ by: { kind: 'rule', rule: 'progress' } }]);
  });

  it('is none after a person has resumed, for as long again', () => {
    const silent = fleetOf(2, 1, () => ({ behaviour: 'silent' }));
    const sim = new RolloutSim({ ...FREE, waves: ALL, progress: { withinMs: 60_000 }, hostTimeoutMs: 3_600_000 }, silent);
    sim.advance(65_000);
    expect(sim.status).toBe('paused');
    sim.order({ kind: 'resume' });
    sim.advance(50_000);
    expect(sim.status).toBe('running');
    sim.advance(15_000);
    expect(sim.status).toBe('paused');
  });
});

describe('the rate', () => {
  it('can be raised and lowered under way: what is under way ends, and no more than that is begun', () => {
    const sim = new RolloutSim(
      { ...FREE, waves: ALL, maxInFlight: 2 },
      fleetOf(30, 1, () => ({ tookMs: 10_000 })),
    );
    expect(sim.state.inFlight.size).toBe(2);
    sim.order({ kind: 'rate', maxInFlight: 8 });
    expect(sim.state.inFlight.size).toBe(8);
    sim.order({ kind: 'rate', maxInFlight: 1 });
    expect(sim.state.inFlight.size).toBe(8);
    const begun = sim.facts('host-started').length;
    sim.advance(9_000);
    expect(sim.facts('host-started').length).toBe(begun);
    sim.advance(5_000);
    expect(sim.state.inFlight.size).toBe(1);
    sim.order({ kind: 'rate', maxInFlight: 30 });
    expect(sim.run().status).toBe('completed');
  });

  it('grows with a ramp as hosts make it, and falls back when one does not', () => {
    const spec = { ...FREE, waves: ALL, maxInFlight: 16, ramp: { from: 1, factor: 2 }, thresholds: [{ max: 5 }] };
    // Each takes another time, so that no two answers come at once.
    const sim = new RolloutSim(
      spec,
      fleetOf(60, 1, (index) => ({ tookMs: 1000 + index * 13 })),
    );
    const windows: number[] = [];
    const look = (): void => {
      if (windows.at(-1) !== sim.state.window) windows.push(sim.state.window);
      sim.advance(1, 1);
    };
    while (sim.state.window < 8) look();
    const next = sim.hosts.get(sim.hostsIn('pending')[0] ?? '');
    if (next !== undefined) Object.assign(next, { behaviour: 'failed' });
    while (!sim.ended && sim.hostsIn('failed').length === 0) look();
    expect(sim.state.window).toBe(1);
    while (!sim.ended) look();
    expect(windows.slice(0, 3)).toEqual([1, 2, 4]);
    expect(Math.max(...windows)).toBeLessThanOrEqual(16);
    expect(sim.hostsIn('done')).toHaveLength(59);
  });
});

describe('a roll-back', () => {
  /** In two zones; the first host of zone a fails, all others are changed. */
  const rolled = (scope: 'touched' | 'failed' | 'failed-zones'): string[] => {
    const hosts = fleetOf(8, 2, (index) => (index === 0 ? { behaviour: 'failed' } : {}));
    const sim = new RolloutSim({ ...FREE, waves: ALL, maxInFlight: 8, thresholds: [{ max: 3 }] }, hosts).run();
    expect(sim.status).toBe('completed');
    sim.order({ kind: 'rollback', scope, except: [] });
    expect(sim.run().status).toBe('rolled-back');
    return sim.hostsIn('restored').toSorted();
  };

  it('is of all that were changed, of those alone that failed, or of their zones', () => {
    expect(rolled('touched')).toHaveLength(8);
    expect(rolled('failed')).toEqual(['h0']);
    const zones = rolled('failed-zones');
    expect(zones).toContain('h0');
    expect(zones).toHaveLength(4);
  });

  it('waits for no window and no freeze, and only for the budget', () => {
    const sim = new RolloutSim({ ...FREE, waves: ALL, maxInFlight: 8 }, fleetOf(8)).run();
    sim.closed = 'they are frozen';
    sim.order({ kind: 'rollback', except: [] });
    expect(sim.run().status).toBe('rolled-back');
  });

  it('that fails ends it, and nothing goes forward again', () => {
    const hosts = fleetOf(4, 1, (index) => (index === 1 ? { behaviour: 'undo-fails' } : {}));
    const sim = new RolloutSim({ ...FREE, waves: ALL, maxInFlight: 4 }, hosts).run();
    const started = sim.facts('host-started').length;
    sim.order({ kind: 'rollback', except: [] });
    expect([sim.run().status, sim.hostsIn('undo-failed')]).toEqual(['rollback-failed', ['h1']]);
    sim.advance(600_000);
    expect(sim.facts('host-started').length).toBe(started);
  });
});

describe('answers that come together', () => {
  const begun = (spec: object, hosts: ReturnType<typeof fleetOf>): RolloutSim => {
    const sim = new RolloutSim({ ...FREE, waves: ALL, maxInFlight: 2, ...spec }, hosts);
    sim.advance(10);
    return sim;
  };
  const failed = { kind: 'failed', attempt: 1, class: 'failed', error: 'no' } as const;

  it('let nothing begin any more when one of them is a failure too many', () => {
    const sim = begun({ thresholds: [{ max: 0 }] }, fleetOf(6));
    const [one = '', other = ''] = sim.hostsIn('changing');
    sim.apply(
      { kind: 'report', report: { kind: 'changed', host: one, attempt: 1 } },
      { kind: 'report', report: { ...failed, host: other } },
    );
    expect([sim.status, sim.facts('host-done').length, sim.facts('host-started').length]).toEqual(['paused', 1, 2]);
  });

  it('are held against a share one by one, in their order', () => {
    const thresholds = [{ max: '50%', minExecuted: 1 }];
    const sim = begun({ thresholds }, fleetOf(6));
    const [one = '', other = ''] = sim.hostsIn('changing');
    sim.apply(
      { kind: 'report', report: { ...failed, host: one } },
      { kind: 'report', report: { kind: 'changed', host: other, attempt: 1 } },
    );
    expect([sim.status, sim.state.paused?.by]).toEqual(['paused', 'threshold']);
  });

  it('leave no host waited for beyond its time, though they come without end and no tick between them', () => {
    const silent = fleetOf(3, 1, (index) => (index === 0 ? { behaviour: 'silent' } : { tookMs: 1000 }));
    const sim = begun({ maxInFlight: 3, hostTimeoutMs: 60_000, thresholds: [{ max: 3 }] }, silent);
    sim.advance(5_000);
    expect(sim.hostsIn('done').toSorted()).toEqual(['h1', 'h2']);
    const stray = { kind: 'report', report: { kind: 'changed', host: 'h1', attempt: 7 } } as const;
    for (; sim.t < 60_000; sim.t += 1000) sim.apply(stray, stray);
    expect(sim.hostsIn('failed')).toEqual([]);
    for (; sim.t < 70_000; sim.t += 1000) sim.apply(stray, stray);
    expect(sim.facts('host-failed')).toMatchObject([{ host: 'h0', class: 'timed-out' }]);
  });
});

describe('people', () => {
  it('promote a wave out of its soak, and the next begins at once', () => {
    const sim = new RolloutSim({ ...FREE, waves: [{ hosts: 1, soakMs: 3_600_000 }, { hosts: '100%' }] }, fleetOf(4));
    while (sim.status !== 'soaking') sim.advance(1000);
    sim.order({ kind: 'promote' }, 'bob', 'the sale is over');
    expect(sim.facts('promoted')).toMatchObject([{ wave: 0, by: { actor: 'bob' }, reason: 'the sale is over' }]);
    expect(sim.run(60_000).status).toBe('completed');
  });

  it('approve wave by wave where a wave asks for it', () => {
    const sim = new RolloutSim({ ...FREE, waves: [{ hosts: 1, approval: true }, { hosts: '100%' }] }, fleetOf(4));
    sim.advance(600_000);
    expect([sim.status, sim.hostsIn('done').length]).toEqual(['awaiting-approval', 1]);
    sim.order({ kind: 'approve' });
    expect(sim.run().status).toBe('completed');
  });
});
