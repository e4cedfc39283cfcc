/** Rollouts on virtual time over random fleets, failures, people and hubs that die: what must hold always. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Action } from '../../hub/rollout/core/act.ts';
import { replay } from '../../hub/rollout/core/evolve.ts';
import { forecast } from '../../hub/rollout/core/forecast.ts';
import { isDisrupted } from '../../hub/rollout/core/state.ts';
import { toFairleadError } from '../../shared/errors.ts';
import type { RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';
import { type Behaviour, fleetOf, journalled, RolloutSim } from '../support/rollout-sim.ts';

const behaviour: fc.Arbitrary<Behaviour> = fc.oneof(
  { weight: 12, arbitrary: fc.constant('ok' as const) },
  {
    weight: 4,
    arbitrary: fc.constantFrom('ok-later' as const, 'failed', 'rejected', 'timed-out', 'unhealthy', 'silent', 'undo-fails'),
  },
);
const reaction = fc.constantFrom('pause' as const, 'abort', 'rollback');
const amount = (least: number) => fc.oneof(fc.integer({ min: least, max: 6 }), fc.constantFrom('5%', '20%', '50%'));

/** Of changed hosts against unchanged ones, and of somebody who always answers well. */
const gate = fc.record({
  checks: fc.tuple(
    fc.record({
      kind: fc.constant('control' as const),
      hosts: fc.integer({ min: 1, max: 8 }),
      minHosts: fc.integer({ min: 1, max: 4 }),
      maxExcess: fc.constantFrom('0%', '5%', '30%'),
      maxControlFailures: fc.constantFrom('0%', '20%', '100%'),
    }),
    fc.constant({ kind: 'webhook' as const, url: 'https://metrics.example.org/' }),
  ),
  failures: fc.integer({ min: 1, max: 3 }),
  successes: fc.integer({ min: 1, max: 2 }),
  deadlineMs: fc.constantFrom(1000, 20_000),
  onFailure: reaction,
});
const waveWith = <T>(rest: Record<string, fc.Arbitrary<T>>) =>
  fc.record({
    hosts: amount(1),
    soakMs: fc.constantFrom(0, 5000),
    approval: fc.constantFrom(false, false, true),
    ...rest,
  });

const counted = {
  failures: fc.constantFrom('any' as const, 'failed', 'unhealthy'),
  of: fc.constantFrom('rollout' as const, 'zone', 'wave'),
  action: reaction,
};
const threshold = fc.record({ ...counted, max: amount(1), minExecuted: fc.integer({ min: 0, max: 5 }) });
const sequential = fc.record({
  ...counted,
  sequential: fc.constantFrom(
    { expected: '1%', tooMany: '5%' },
    { expected: '10%', tooMany: '30%', falseAlarms: '10%' },
    { expected: '1%', tooMany: '99%', falseAlarms: '50%' },
  ),
});

const spec = fc.record({
  waves: fc.array(fc.oneof({ weight: 2, arbitrary: waveWith({}) }, { weight: 1, arbitrary: waveWith({ gate }) }), {
    minLength: 1,
    maxLength: 4,
  }),
  maxInFlight: fc.integer({ min: 1, max: 8 }),
  zones: fc.record({ order: fc.constantFrom('sequential' as const, 'concurrent'), maxInFlight: fc.integer({ min: 1, max: 3 }) }),
  budget: fc.record({ maxUnavailable: amount(1), perZone: amount(1) }),
  health: fc.record({
    checks: fc.constantFrom([], [{ kind: 'vm-state' as const }]),
    minHealthyMs: fc.constantFrom(0, 3000),
    deadlineMs: fc.constant(10_000),
  }),
  strict: fc.boolean(),
  thresholds: fc.array(fc.oneof({ weight: 3, arbitrary: threshold }, { weight: 1, arbitrary: sequential }), {
    minLength: 1,
    maxLength: 2,
  }),
  unreachable: fc.record({
    policy: fc.constantFrom('skip' as const, 'wait', 'count-as-failure'),
    waitMs: fc.constantFrom(0, 30_000),
  }),
  hostTimeoutMs: fc.constant(20_000),
  ramp: fc.constantFrom(undefined, { from: 1, factor: 2 }),
  approval: fc.constantFrom('none' as const, 'none' as const, 'anyone' as const),
  rollback: fc.record({ scope: fc.constantFrom('touched' as const, 'failed', 'failed-zones') }),
}) satisfies fc.Arbitrary<Omit<RolloutSpecInput, 'selector' | 'steps' | 'ramp'> & { ramp: unknown }>;

type Deed =
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'line'; readonly host: number; readonly up: boolean }
  | { readonly do: 'crash'; readonly lost: number }
  /** Something befalls hosts that is not the change, or is over; somebody changes one, or has it in hand for a while. */
  | { readonly do: 'befall'; readonly every: number; readonly sick: boolean }
  | { readonly do: 'hands'; readonly what: 'meddle' | 'take' | 'give'; readonly host: number }
  | { readonly do: 'order'; readonly action: Action };

const action: fc.Arbitrary<Action> = fc.oneof(
  fc.constantFrom(
    { kind: 'pause' as const },
    { kind: 'resume' as const },
    { kind: 'abort' as const },
    { kind: 'retry-failed' as const },
    { kind: 'promote' as const },
    { kind: 'approve' as const },
    { kind: 'rollback' as const, except: [] },
  ),
  fc.record({ kind: fc.constant('skip' as const), host: fc.integer({ min: 0, max: 30 }).map((index) => `h${index}`) }),
  fc.record({ kind: fc.constant('rate' as const), maxInFlight: fc.integer({ min: 1, max: 12 }) }),
);

const deed: fc.Arbitrary<Deed> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 8000 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('line' as const), host: fc.nat(30), up: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('crash' as const), lost: fc.nat(4) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('order' as const), action }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('befall' as const), every: fc.integer({ min: 1, max: 6 }), sick: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('hands' as const),
      what: fc.constantFrom('meddle' as const, 'take', 'give'),
      host: fc.nat(30),
    }),
  },
);

const scenario = fc.record({
  spec,
  zones: fc.integer({ min: 1, max: 4 }),
  hosts: fc.array(fc.record({ behaviour, tookMs: fc.integer({ min: 1, max: 4000 }) }), { minLength: 1, maxLength: 30 }),
  deeds: fc.array(deed, { maxLength: 40 }),
  gatherMs: fc.constantFrom(0, 0, 10, 2000),
});

function simOf(given: typeof scenario extends fc.Arbitrary<infer T> ? T : never): RolloutSim {
  const { spec, hosts, zones, gatherMs } = given;
  const { ramp, thresholds, ...rest } = spec;
  // A sequential test in strict mode is refused before anything is planned.
  const held = spec.strict ? thresholds.filter((each) => !('sequential' in each)) : thresholds;
  const sim = new RolloutSim(
    { ...rest, thresholds: held, ...(ramp === undefined ? {} : { ramp }) },
    fleetOf(hosts.length, zones, (index) => hosts[index] ?? {}),
  );
  sim.gatherMs = gatherMs;
  return sim;
}

function perform(sim: RolloutSim, deed: Deed): void {
  if (deed.do === 'wait') sim.advance(deed.ms);
  // A hub that dies takes with it what was not durable, but then it had done nothing of it either and acknowledged nothing.
  else if (deed.do === 'crash') sim.crash();
  else if (deed.do === 'befall') befall(sim, deed);
  else if (deed.do === 'hands') HANDS[deed.what](sim, `h${deed.host}`);
  else if (deed.do === 'line') {
    if (sim.hosts.has(`h${deed.host}`)) sim.setUp(`h${deed.host}`, deed.up);
  } else order(sim, deed.action);
}

const HANDS = {
  meddle: (sim, host) => void sim.meddled.add(host),
  take: (sim, host) => void sim.taken.add(host),
  give: (sim, host) => void sim.taken.delete(host),
} as const satisfies Record<string, (sim: RolloutSim, host: string) => void>;

function befall(sim: RolloutSim, { every, sick }: { readonly every: number; readonly sick: boolean }): void {
  for (const [index, name] of [...sim.hosts.keys()].entries()) {
    if (index % every !== 0) continue;
    if (sick) sim.sick.add(name);
    else sim.sick.delete(name);
  }
}

const REFUSALS: ReadonlySet<string> = new Set(['WRONG_STATE', 'NOT_FOUND']);

function order(sim: RolloutSim, wanted: Action): void {
  const before = sim.log.length;
  try {
    sim.order(wanted);
  } catch (error) {
    if (!REFUSALS.has(toFairleadError(error).code)) throw error;
    if (sim.log.length !== before) throw new Error('a refused order has changed something', { cause: error });
  }
}

/** Whoever is away comes back, people approve what is asked, and in the end abort what does not end by itself. */
function bringToEnd(sim: RolloutSim): void {
  for (const name of sim.hosts.keys()) sim.setUp(name, true);
  for (let round = 0; round < 60 && !sim.ended; round++) {
    sim.run(120_000);
    if (sim.ended) return;
    order(sim, {
      kind:
        sim.status === 'awaiting-approval'
          ? 'approve'
          : sim.status === 'paused' && round < 20
            ? 'resume'
            : round < 30
              ? 'promote'
              : 'abort',
    });
  }
}

const TERMINAL = new Set(['done', 'failed', 'skipped', 'not-started', 'restored', 'undo-failed']);

describe('a rollout, whatever happens to it', () => {
  it('never exceeds its budget, nor in strict mode its thresholds, ends, and leaves each host in one terminal state', () => {
    fc.assert(
      fc.property(scenario, (given) => {
        const sim = simOf(given);
        for (const each of given.deeds) perform(sim, each);
        bringToEnd(sim);
        expect(sim.ended).toBe(true);
        const phases = [...sim.state.hosts.values()].map(({ phase }) => phase);
        expect(phases.filter((phase) => !TERMINAL.has(phase))).toEqual([]);
        const { planned, settled, inFlight } = sim.state.tallies.all;
        expect([planned, inFlight]).toEqual([given.hosts.length, 0]);
        expect(settled).toBe(phases.filter((phase) => phase === 'done' || phase === 'failed' || phase === 'skipped').length);
      }),
      { numRuns: 250 },
    );
  });

  it('has no more hosts away than its plan foretells, as long as no person interferes', () => {
    fc.assert(
      fc.property(scenario, (given) => {
        const sim = simOf(given);
        const { zones, worstUnavailable } = forecast(sim.spec, sim.state.plan);
        const worstOf = new Map(zones.map(({ zone, worstUnavailable: worst }) => [zone, worst]));
        for (const each of given.deeds) {
          if (each.do !== 'order') perform(sim, each);
          const away = [...sim.state.hosts.values()].filter((host) => isDisrupted(sim.state, host));
          expect(away.length).toBeLessThanOrEqual(worstUnavailable);
          for (const [zone, hosts] of Map.groupBy(away, (host) => host.zone)) {
            expect(hosts.length, `zone ${zone}`).toBeLessThanOrEqual(worstOf.get(zone) ?? 0);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  it('starts and changes nothing after an acknowledged abort or pause', () => {
    fc.assert(
      fc.property(scenario, fc.constantFrom('abort' as const, 'pause' as const), fc.nat(40), (given, kind, at) => {
        const sim = simOf(given);
        for (const each of given.deeds.slice(0, at)) perform(sim, each);
        order(sim, { kind });
        if (sim.status !== 'aborted' && sim.status !== 'aborting' && sim.status !== 'paused') return;
        const { length } = sim.log;
        const changing = new Set([...sim.hostsIn('changing'), ...sim.hostsIn('undoing')]);
        for (const each of given.deeds.slice(at)) if (each.do !== 'order') perform(sim, each);
        sim.advance(60_000);
        const started = sim.log.slice(length).filter(({ fact }) => fact.type === 'host-started' || fact.type === 'undo-started');
        expect(started).toEqual([]);
        const begun = sim.begun.filter(({ key, seq }) => seq > length && !changing.has(key.split(' ')[1] ?? ''));
        expect(begun).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });

  it('takes back to what was recorded before the first attempt, newest first', () => {
    fc.assert(
      fc.property(scenario, (given) => {
        const sim = simOf({ ...given, spec: { ...given.spec, rollback: { scope: 'touched' } } });
        for (const each of given.deeds) perform(sim, each);
        for (const name of sim.hosts.keys()) sim.setUp(name, true);
        order(sim, { kind: 'rollback', except: [] });
        for (let round = 0; round < 5 && !sim.ended; round++) {
          sim.run(600_000);
          if (sim.status === 'paused') order(sim, { kind: 'resume' });
        }
        expect(['rolled-back', 'rollback-failed']).toContain(sim.status);
        const isBack = sim.status === 'rolled-back';
        const changed = [...sim.hosts.values()].filter(({ name, value }) => {
          const { phase, touched } = sim.state.hosts.get(name) ?? {};
          return (isBack || phase === 'restored' || touched === false) && value !== 'old';
        });
        expect(changed.map(({ name }) => name)).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });

  it('is what its journal says, and goes on from any place of it with no command run twice and no host lost', () => {
    fc.assert(
      fc.property(scenario, fc.nat(), (given, seed) => {
        const sim = simOf(given);
        for (const each of given.deeds) perform(sim, each);
        expect(journalled(replay('r1', sim.spec, sim.log) ?? sim.state)).toEqual(journalled(sim.state));
        // What was not durable was never acknowledged, and no effect of it has been seen.
        const least = Math.max(1, ...sim.begun.map((begun) => begun.seq));
        sim.crash(least + (seed % Math.max(1, sim.log.length - least + 1)));
        bringToEnd(sim);
        expect(sim.ended).toBe(true);
        // A further attempt is one that a person asked for, or a rollback that began anew.
        const retries = sim.facts('retried');
        const rollbacks = sim.facts('rollback-begun').length;
        for (const name of sim.hosts.keys()) {
          const ran = (kind: string) => sim.begun.filter(({ key }) => key.startsWith(`${kind} ${name} `)).length;
          const mayRun = 1 + retries.filter(({ hosts }) => hosts.includes(name)).length;
          expect(ran('change'), `changes of ${name}`).toBeLessThanOrEqual(mayRun);
          expect(ran('undo'), `undos of ${name}`).toBeLessThanOrEqual(rollbacks);
        }
      }),
      { numRuns: 150 },
    );
  });
});
