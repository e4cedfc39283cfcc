/** Every action in every state of a rollout, as the table in hub/rollout/core/act.ts says; and each of them twice. */
import { describe, expect, it } from 'vitest';
import type { Action } from '../../hub/rollout/core/act.ts';
import { toFairleadError } from '../../shared/errors.ts';
import { fleetOf, RolloutSim } from '../support/rollout-sim.ts';

const FREE = { budget: { maxUnavailable: '100%', perZone: '100%' }, thresholds: [{ max: 5 }] };
const ALL = [{ hosts: '100%' }];
const hosts = () => fleetOf(6, 1, (index) => (index === 0 ? { behaviour: 'failed' } : {}));

/** A rollout in each state, with a failed host where there can be one. */
const STATES: Readonly<Record<string, () => RolloutSim>> = {
  'to be approved': () => new RolloutSim({ ...FREE, approval: 'anyone' }, hosts()),
  running: () => {
    const sim = new RolloutSim(
      { ...FREE, waves: ALL, maxInFlight: 2 },
      fleetOf(6, 1, (index) => (index === 0 ? { behaviour: 'failed', tookMs: 1 } : { tookMs: 9_000 })),
    );
    while (sim.hostsIn('failed').length === 0) sim.advance(1000);
    return sim;
  },
  paused: () => {
    const sim = STATES['running']?.() ?? unreachable();
    sim.order({ kind: 'pause' });
    return sim;
  },
  soaking: () => {
    const sim = new RolloutSim({ ...FREE, waves: [{ hosts: 6, soakMs: 600_000 }, { hosts: '100%' }] }, hosts());
    while (sim.status !== 'soaking') sim.advance(1000);
    return sim;
  },
  aborting: () => {
    const sim = STATES['running']?.() ?? unreachable();
    sim.order({ kind: 'abort' });
    expect(sim.status).toBe('aborting');
    return sim;
  },
  'rolling back': () => {
    const sim = STATES['running']?.() ?? unreachable();
    sim.order({ kind: 'rollback', except: [] });
    return sim;
  },
  completed: () => new RolloutSim({ ...FREE, waves: ALL }, hosts()).run(),
  aborted: () => STATES['aborting']?.().run() ?? unreachable(),
  'rolled back': () => STATES['rolling back']?.().run() ?? unreachable(),
  'rollback failed': () => {
    const sim = new RolloutSim(
      { ...FREE, waves: ALL },
      fleetOf(6, 1, (index) => ({ behaviour: index === 0 ? 'undo-fails' : 'ok' })),
    ).run();
    sim.order({ kind: 'rollback', except: [] });
    return sim.run();
  },
};

function unreachable(): never {
  throw new Error('no such state');
}

const ACTIONS: Readonly<Record<string, (sim: RolloutSim) => Action>> = {
  pause: () => ({ kind: 'pause' }),
  resume: () => ({ kind: 'resume' }),
  abort: () => ({ kind: 'abort' }),
  rollback: () => ({ kind: 'rollback', except: [] }),
  promote: () => ({ kind: 'promote' }),
  approve: () => ({ kind: 'approve' }),
  retry: () => ({ kind: 'retry-failed' }),
  skip: (sim) => ({ kind: 'skip', host: sim.hostsIn('pending')[0] ?? 'h0' }),
  rate: () => ({ kind: 'rate', maxInFlight: 7 }),
};

/** `acts`, `-` for nothing to be done, `no` for WRONG_STATE. Columns as in ACTIONS. */
const MATRIX: Readonly<Record<string, string>> = {
  //                  pause resume abort rollback promote approve retry skip rate
  'to be approved': 'acts  -      acts  acts     no      acts    -     acts acts',
  running: 'acts  -      acts  acts     no      -       acts  acts acts',
  paused: '-     acts   acts  acts     no      -       acts  acts acts',
  soaking: 'acts  -      acts  acts     acts    -       acts  acts acts',
  aborting: 'no    no     -     acts     no      no      no    no   no',
  'rolling back': 'acts  -      acts  -        no      no      no    no   acts',
  completed: 'no    no     -     acts     no      no      acts  no   no',
  aborted: 'no    no     -     acts     no      no      no    no   no',
  'rolled back': 'no    no     -     -        no      no      no    no   no',
  'rollback failed': 'no    no     -     acts     no      no      no    no   no',
};

function outcomeOf(sim: RolloutSim, action: Action): string {
  const { length } = sim.log;
  try {
    sim.order(action);
    return sim.log.length > length ? 'acts' : '-';
  } catch (error) {
    const { code } = toFairleadError(error);
    return code === 'WRONG_STATE' && sim.log.length === length ? 'no' : code;
  }
}

describe('every action in every state', () => {
  it.each(Object.entries(MATRIX))('while it is %s', (state, row) => {
    const make = STATES[state] ?? unreachable();
    const found = Object.values(ACTIONS).map((action) => {
      const sim = make();
      return outcomeOf(sim, action(sim));
    });
    expect(Object.fromEntries(Object.keys(ACTIONS).map((name, index) => [name, found[index]]))).toEqual(
      Object.fromEntries(Object.keys(ACTIONS).map((name, index) => [name, row.split(/\s+/)[index]])),
    );
  });

  it.each(Object.keys(MATRIX))('changes nothing the second time while it is %s', (state) => {
    const repeats = Object.entries(ACTIONS).flatMap(([name, action]) => {
      const sim = (STATES[state] ?? unreachable)();
      const given = action(sim);
      if (outcomeOf(sim, given) !== 'acts') return [];
      // A wave that was left is another by now, so the same order names its wave; an approval that was heard is not asked for any more.
      const again = given.kind === 'promote' || given.kind === 'approve' ? { ...given, wave: 0 } : given;
      return [`${name} ${outcomeOf(sim, again)}`];
    });
    expect(repeats.filter((repeat) => !repeat.endsWith(' -'))).toEqual([]);
  });

  it('always ends after an abort', () => {
    for (const make of Object.values(STATES)) {
      const sim = make();
      sim.order({ kind: 'abort' });
      expect(sim.run().ended).toBe(true);
    }
  });

  it('has the one approve who did not start it, where that is asked for', () => {
    const sim = new RolloutSim({ ...FREE, approval: 'another' }, hosts());
    expect(() => sim.order({ kind: 'approve' }, 'alice')).toThrow('another has to approve');
    sim.order({ kind: 'approve' }, 'bob');
    expect(sim.status).toBe('running');
  });
});
