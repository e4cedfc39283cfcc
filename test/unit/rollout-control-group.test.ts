/** Control groups: who is compared with whom, what comes of it, and what a rollout does with an incident of the fleet. On virtual time. */
import { describe, expect, it } from 'vitest';
import { compareGroups, drawGroups, type Look, type Standing } from '../../hub/rollout/core/control-group.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { type ControlCheck, Gate } from '../../shared/protocol/rollout-checks.ts';
import type { RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';
import { fleetOf, RolloutSim, type SimHost } from '../support/rollout-sim.ts';

const FREE = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' as const, maxInFlight: 10 } };
type GateInput = NonNullable<NonNullable<RolloutSpecInput['waves']>[number]['gate']>;
type ControlInput = Extract<GateInput['checks'][number], { kind: 'control' }>;

function controlOf(more: Partial<ControlInput> = {}): ControlCheck {
  const [check] = parseWith(Gate, { checks: [{ kind: 'control', ...more }] }, 'gate').checks;
  if (check?.kind !== 'control') throw new Error('no control check');
  return check;
}

const looks = (bad: number, good: number, untold = 0): Look[] => [
  ...Array.from({ length: bad }, (_, index): Look => ({ host: `b${index}`, answer: 'bad', why: 'VM web is crashed' })),
  ...Array.from({ length: good }, (_, index): Look => ({ host: `g${index}`, answer: 'good', why: '' })),
  ...Array.from({ length: untold }, (_, index): Look => ({ host: `u${index}`, answer: 'untold', why: 'refuses' })),
];

describe('a comparison', () => {
  it.each([
    ['of equals', looks(0, 20), looks(0, 20), 'success'],
    ['of as much worse as may be', looks(1, 19), looks(0, 20), 'success'],
    ['of more than that', looks(2, 18), looks(0, 20), 'failure'],
    ['of what was bad before as well', looks(4, 16), looks(3, 17), 'success'],
    ['of a change that makes better what was bad', looks(0, 20), looks(4, 16), 'success'],
    ['of an incident that spares the changed', looks(0, 20), looks(5, 15), 'inconclusive'],
    ['of an incident, and a change that is bad besides', looks(20, 0), looks(5, 15), 'inconclusive'],
    ['of one changed host that is bad', looks(1, 0), looks(0, 20), 'failure'],
    ['with too few to compare with', looks(2, 0), looks(0, 2), 'inconclusive'],
    ['with too few that can be asked', looks(2, 0), looks(0, 2, 18), 'inconclusive'],
    ['with no changed host that can be asked', looks(0, 0, 5), looks(0, 20), 'inconclusive'],
    ['that leaves out whom it could not ask', looks(0, 5, 15), looks(0, 5, 15), 'success'],
  ] as const)('%s', (_what, changed, control, answer) => {
    expect(compareGroups(controlOf(), changed, control).answer).toBe(answer);
  });

  it('tells the figures and names some of those that are bad, in few words', () => {
    const { detail } = compareGroups(controlOf(), looks(3, 17), looks(0, 20));
    expect(detail).toBe(
      '3 of 20 changed and 0 of 20 unchanged hosts are bad: b0 VM web is crashed; b1 VM web is crashed; b2 VM web is crashed',
    );
    const many = compareGroups(
      controlOf(),
      looks(100, 0).map((look) => ({ ...look, why: 'x'.repeat(1000) })),
      looks(0, 20),
    );
    expect(many.detail).toMatch(/; and 95 more$/);
    expect(many.detail.length).toBeLessThan(1500);
  });
});

describe('the groups', () => {
  const FINE: Standing = { agentVersion: '1', hardware: 'a', isInOtherHands: false, isChangedByOthers: false, hasComeBack: true };
  /** Ten of forty hosts are changed, in two waves of five; one of the second wave has failed. */
  const atGate = (): RolloutSim => {
    const hosts = fleetOf(40, 4);
    const gate = { checks: [{ kind: 'webhook' as const, url: 'http://gate.example/' }] };
    const waves = [{ hosts: 5 }, { hosts: 5, gate }, { hosts: '100%' }];
    const sim = new RolloutSim({ ...FREE, waves, thresholds: [{ max: 5 }] }, hosts);
    sim.gateAnswer = 'inconclusive';
    const [failing = ''] = [...sim.state.hosts.values()].filter(({ wave }) => wave === 1).map(({ host }) => host);
    Object.assign(sim.hosts.get(failing) ?? {}, { behaviour: 'failed' } satisfies Partial<SimHost>);
    while (sim.status !== 'gating') sim.advance(100, 100);
    return sim;
  };
  const wavesOf = (sim: RolloutSim, names: readonly string[]) => names.map((name) => sim.state.hosts.get(name)?.wave);

  it('are the changed hosts, those of the wave at hand first, and hosts that wait for their turn', () => {
    const sim = atGate();
    const { changed, control } = drawGroups(sim.state, () => FINE, 20);
    expect(wavesOf(sim, changed)).toEqual([1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    expect(changed).toEqual(expect.arrayContaining(sim.hostsIn('failed')));
    expect(control).toHaveLength(20);
    expect(new Set(wavesOf(sim, control))).toEqual(new Set([2]));
  });

  it('are the same each time, a smaller one the beginning of a greater, and not always the same of another rollout', () => {
    const { state } = atGate();
    const great = drawGroups(state, () => FINE, 20);
    expect(drawGroups(state, () => FINE, 20)).toEqual(great);
    expect(drawGroups(state, () => FINE, 3).control).toEqual(great.control.slice(0, 3));
    const other = drawGroups({ ...state, id: 'r2' }, () => FINE, 20);
    expect(other.control).not.toEqual(great.control);
  });

  it('meet as many kinds of hosts as they have hosts', () => {
    const sim = atGate();
    const hardwareOf = (name: string) => (Number(name.slice(1)) % 8 < 4 ? 'old' : 'new');
    const standingOf = (name: string) => ({ ...FINE, hardware: hardwareOf(name) });
    const { control } = drawGroups(sim.state, standingOf, 8);
    const kinds = control.map((name) => `${sim.state.hosts.get(name)?.zone} ${hardwareOf(name)}`);
    expect(new Set(kinds).size).toBe(8);
  });

  it.each([
    ['in other hands', { isInOtherHands: true }, 0, 0],
    ['changed by somebody since', { isChangedByOthers: true }, 10, 0],
    ['well', {}, 10, 30],
  ])('have of hosts that are %s only those that can be compared', (_what, standing, changed, control) => {
    const groups = drawGroups(atGate().state, () => ({ ...FINE, ...standing }), 100);
    expect([groups.changed.length, groups.control.length]).toEqual([changed, control]);
  });

  it('have as a control no host that was away when it was planned, until it has come back', () => {
    const { state } = atGate();
    for (const host of state.hosts.values())
      if (host.phase === 'pending') Object.assign(host, { away: Number(host.host.slice(1)) % 2 === 0 });
    const away = [...state.hosts.values()].filter((host) => host.away).map(({ host }) => host);
    expect(away.length).toBeGreaterThan(5);
    const gone = drawGroups(state, () => ({ ...FINE, hasComeBack: false }), 100);
    expect([gone.control.length, gone.control.some((name) => away.includes(name))]).toEqual([30 - away.length, false]);
    expect(drawGroups(state, () => FINE, 100).control).toHaveLength(30);
  });

  it('have no host that is enrolled no more, nor one that was skipped', () => {
    const sim = atGate();
    const [first = '', second = ''] = sim.hostsIn('pending');
    sim.order({ kind: 'skip', host: first });
    const { control } = drawGroups(sim.state, (name) => (name === second ? undefined : FINE), 100);
    expect(control).toHaveLength(28);
    expect(control).not.toContain(first);
  });
});

describe('a gate with a control group', () => {
  const gateOf = (more: Partial<ControlInput> = {}, rest: Partial<GateInput> = {}): GateInput => ({
    checks: [{ kind: 'control', ...more }],
    onFailure: 'rollback',
    deadlineMs: 60_000,
    ...rest,
  });
  const rolloutOf = (gate: GateInput, of?: (index: number) => Partial<SimHost>): RolloutSim => {
    const spec = { ...FREE, maxInFlight: 10, waves: [{ hosts: 10, soakMs: 30_000, gate }, { hosts: '100%' as const }] };
    return new RolloutSim(spec, fleetOf(60, 3, of));
  };
  const soaking = (sim: RolloutSim): RolloutSim => {
    while (sim.status !== 'soaking') sim.advance(100, 100);
    return sim;
  };
  const inZone = (sim: RolloutSim, zone: string) => [...sim.hosts.values()].filter((host) => host.zone === zone);

  it('lets a good change through', () => {
    const sim = rolloutOf(gateOf()).run();
    expect([sim.status, sim.compared.length, sim.hostsIn('done').length]).toEqual(['completed', 1, 60]);
    expect(sim.compared[0]).toMatchObject({ answer: 'success' });
  });

  it('takes a bad change back that hosts show only later, when none of the others does', () => {
    const sim = soaking(rolloutOf(gateOf()));
    for (const name of sim.hostsIn('done').slice(0, 3)) sim.sick.add(name);
    expect(sim.run().status).toBe('rolled-back');
    expect(sim.state.stopped).toMatchObject({
      by: 'gate',
      reason: expect.stringMatching(
        /^the gate of wave 0 failed: 3 of 10 changed and 0 of 20 unchanged hosts are bad: h\d+ VM web/,
      ),
    });
    expect(sim.compared).toHaveLength(3);
  });

  it('does not blame the change for an incident of the whole fleet: it asks a person, and goes on when that is over', () => {
    const sim = soaking(rolloutOf(gateOf()));
    for (const name of sim.hosts.keys()) sim.sick.add(name);
    expect(sim.run().status).toBe('paused');
    expect(sim.state.paused).toMatchObject({
      by: 'gate',
      reason: expect.stringMatching(/cannot be told: 10 of 10 changed and 20 of 20/),
    });
    expect(sim.facts('rollback-begun')).toEqual([]);
    sim.sick.clear();
    sim.order({ kind: 'resume' });
    expect(sim.run().status).toBe('completed');
  });

  it('says while it is asked again what it has found', () => {
    const sim = soaking(rolloutOf(gateOf()));
    for (const name of sim.hosts.keys()) sim.sick.add(name);
    while (sim.compared.length === 0) sim.advance(1000);
    expect([sim.status, sim.blocked]).toEqual(['gating', expect.stringContaining('the gate of wave 0: 10 of 10 changed')]);
    sim.sick.clear();
    expect(sim.run().status).toBe('completed');
  });

  it('takes a zone that is down for an incident, whose hosts are bad on either side', () => {
    const sim = soaking(rolloutOf(gateOf()));
    for (const { name } of inZone(sim, 'b')) sim.setUp(name, false);
    expect(sim.run().status).toBe('paused');
    expect(sim.state.paused?.reason).toContain('cannot be told');
    for (const { name } of inZone(sim, 'b')) sim.setUp(name, true);
    sim.order({ kind: 'resume' });
    expect(sim.run().status).toBe('completed');
  });

  it('still sees what the change does beside an incident that has not befallen many', () => {
    const sim = soaking(rolloutOf(gateOf({ hosts: 50 })));
    for (const name of sim.hostsIn('pending').slice(0, 8)) sim.sick.add(name);
    for (const name of sim.hostsIn('done').slice(0, 4)) sim.sick.add(name);
    expect(sim.run().status).toBe('rolled-back');
    expect(sim.state.stopped?.reason).toContain('4 of 10 changed and 8 of 50 unchanged');
  });

  it('is not passed by a change that is bad during an incident, and fails when the incident is over and the change still bad', () => {
    const sim = soaking(rolloutOf(gateOf()));
    for (const name of sim.hosts.keys()) sim.sick.add(name);
    while (sim.compared.length < 2) sim.advance(1000);
    expect(sim.status).toBe('gating');
    for (const name of sim.hostsIn('pending')) sim.sick.delete(name);
    expect(sim.run().status).toBe('rolled-back');
  });

  it('pauses where too few unchanged hosts can be asked, and says how many it needs', () => {
    const sim = soaking(rolloutOf(gateOf({ minHosts: 5 })));
    for (const name of sim.hostsIn('pending').slice(4)) sim.meddled.add(name);
    expect(sim.run().status).toBe('paused');
    expect(sim.state.paused?.reason).toContain('0 of 4 unchanged hosts are bad, and 5 unchanged ones must be asked');
    sim.order({ kind: 'promote' });
    expect(sim.run().status).toBe('completed');
  });

  it('is asked anew, with the same groups, by the hub that takes over in the middle of it', () => {
    const sim = soaking(rolloutOf(gateOf({}, { successes: 4 })));
    while (sim.compared.length < 2) sim.advance(100, 100);
    sim.crash();
    expect(sim.status).toBe('gating');
    expect(sim.run().status).toBe('completed');
    const [first, ...later] = sim.compared;
    expect(later).toHaveLength(5);
    for (const comparison of later) expect(comparison).toEqual(first);
  });

  it('sees a bad change also when the hub dies between two rounds', () => {
    const sim = soaking(rolloutOf(gateOf()));
    for (const name of sim.hostsIn('done').slice(0, 3)) sim.sick.add(name);
    while (sim.compared.length < 2) sim.advance(100, 100);
    sim.crash();
    expect(sim.run().status).toBe('rolled-back');
    expect(sim.compared).toHaveLength(5);
  });
});
