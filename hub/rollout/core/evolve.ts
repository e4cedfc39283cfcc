/**
 * What an event makes of the state: the only place where a rollout changes. It asks nothing and decides nothing, so that events read back
 * from the journal give the state that they gave when they happened.
 */
import type { FactOf, RolloutEntry, RolloutFact } from '../../../shared/protocol/rollout-events.ts';
import type { RolloutSpec } from '../../../shared/protocol/rollout-spec.ts';
import type { HostPhase } from '../../../shared/protocol/rollout-status.ts';
import { newRun } from './check-run.ts';
import { addHost, type Because, enqueue, type HostState, inScope, isInFlight, newState, type RolloutState } from './state.ts';

const WAITS_FOR_ITS_CHANGE: ReadonlySet<HostPhase> = new Set(['pending', 'waiting', 'recording', 'held']);
const UNWATCHED = 'its health was not watched to the end';

/** When it happened: rollout time, and Unix milliseconds. */
export type Moment = Pick<RolloutEntry, 't' | 'atMs'>;

/** From the journal. Undefined when there is no event. */
export function replay(id: string, spec: RolloutSpec, entries: Iterable<RolloutEntry>): RolloutState | undefined {
  let state: RolloutState | undefined;
  for (const entry of entries) {
    if (entry.fact.type === 'planned') state = begin(id, spec, entry.fact);
    else if (state === undefined) throw new Error(`the journal of rollout ${id} begins with ${entry.fact.type}`);
    else evolve(state, entry.fact, entry);
  }
  return state;
}

export function begin(id: string, spec: RolloutSpec, { plan, by }: FactOf<'planned'>): RolloutState {
  return newState(id, spec, plan, by.kind === 'person' ? by.actor : by.rule);
}

export function evolve(state: RolloutState, fact: RolloutFact, { t, atMs }: Moment): void {
  state.t = t;
  state.atMs = atMs;
  apply(state, fact);
}

type Handlers = { readonly [T in RolloutFact['type']]: (state: RolloutState, fact: FactOf<T>) => void };

function apply<T extends RolloutFact['type']>(state: RolloutState, fact: FactOf<T>): void {
  // SAFETY: the type of a fact is the key of its handler.
  const handler = HANDLERS[fact.type] as (state: RolloutState, fact: FactOf<T>) => void;
  handler(state, fact);
}

const HANDLERS: Handlers = {
  planned: () => {},

  'stage-begun': (state, { wave, stage }) => {
    state.wave = wave;
    state.stage = stage;
    state.stageSinceT = state.t;
    state.progressT = state.t;
    state.gate = stage === 'gate' ? newRun(state.nextRun++, state.t) : undefined;
  },
  promoted: (state) => letGoOn(state),
  approved: (state, { by }) => {
    if (state.stage === 'to-be-approved' && by.kind === 'person') state.approvedBy = by.actor;
  },
  paused: (state, fact) => {
    state.paused = becauseOf(fact);
    if (state.gate !== undefined) state.gate.stopped = true;
  },
  resumed: (state) => letGoOn(state),
  aborted: (state, fact) => {
    state.phase = { kind: 'aborting' };
    state.stopped = becauseOf(fact);
    state.paused = undefined;
    settleUntouched(state);
  },
  'rollback-begun': (state, fact) => {
    const { scope, except } = fact;
    state.stopped = becauseOf(fact);
    const isMeant = inScope(state, scope);
    settleUntouched(state);
    const spared = new Set(except);
    const backlog = [...state.hosts.values()]
      .filter((host) => host.touched && host.phase !== 'restored' && !spared.has(host.host) && isMeant(host))
      .sort((a, b) => a.order - b.order);
    state.phase = { kind: 'backward', backlog, failed: false };
    state.paused = undefined;
    state.progressT = state.t;
  },
  retried: (state, { hosts }) => {
    for (const host of hosts.map((name) => hostOf(state, name))) tryAgain(state, host);
    state.phase = { kind: 'forward' };
    state.stage = 'hosts';
    state.gate = undefined;
    letGoOn(state);
  },
  'rate-changed': (state, { maxInFlight }) => {
    state.maxInFlight = maxInFlight;
    state.window = state.spec.ramp === undefined ? maxInFlight : Math.min(state.window, maxInFlight);
  },
  joined: (state, { hosts }) => {
    for (const host of hosts) addHost(state, host);
    state.lastWave += 1;
  },
  ended: (state, { outcome }) => {
    settleUntouched(state);
    state.phase = { kind: 'ended', outcome };
    state.paused = undefined;
    state.gate = undefined;
  },

  'host-started': (state, { host: name, attempt }) => {
    const host = hostOf(state, name);
    host.attempt = attempt;
    host.begunT = state.t;
    host.begunAtMs = state.atMs;
    if (host.order === 0) host.order = ++state.started;
    move(state, host, host.previous === undefined ? 'recording' : 'changing');
  },
  'host-recorded': (state, { host: name, previous }) => {
    const host = hostOf(state, name);
    host.previous = previous;
    move(state, host, state.paused === undefined ? 'changing' : 'held');
  },
  'host-changed': (state, { host: name }) => {
    const host = hostOf(state, name);
    move(state, host, 'verifying');
    host.checks = newRun(state.nextRun++, state.t);
  },
  'host-done': (state, { host: name }) => {
    const host = hostOf(state, name);
    if (state.phase.kind !== 'forward') host.note = UNWATCHED;
    host.failure = undefined;
    move(state, host, 'done');
    state.progressT = state.t;
    grow(state);
  },
  'host-failed': (state, { host: name, class: failure, error }) => {
    const host = hostOf(state, name);
    host.failure = { class: failure, error };
    move(state, host, 'failed');
    if (state.spec.ramp !== undefined) state.window = Math.min(state.spec.ramp.from, state.maxInFlight);
    state.grownBy = 0;
  },
  'host-waiting': (state, { host }) => move(state, hostOf(state, host), 'waiting'),
  'host-back': (state, { host: name }) => {
    const host = hostOf(state, name);
    move(state, host, 'pending');
    enqueue(state, host);
  },
  'host-skipped': (state, { host: name, reason }) => skip(state, hostOf(state, name), reason),
  'host-passed-over': (state, { host: name, reason }) => skip(state, hostOf(state, name), reason),

  'undo-started': (state, { host: name, attempt }) => {
    const host = hostOf(state, name);
    host.undoAttempt = attempt;
    host.begunT = state.t;
    host.begunAtMs = state.atMs;
    move(state, host, 'undoing');
  },
  'host-restored': (state, { host: name }) => {
    const host = hostOf(state, name);
    host.note = undefined;
    move(state, host, 'restored');
    state.progressT = state.t;
  },
  'undo-failed': (state, { host: name, error }) => {
    const host = hostOf(state, name);
    host.note = error;
    move(state, host, 'undo-failed');
    if (state.phase.kind === 'backward') state.phase.failed = true;
  },
};

function becauseOf({ by, reason }: FactOf<'paused' | 'aborted' | 'rollback-begun'>): Because {
  const isByPerson = by.kind === 'person';
  return { by: isByPerson ? by.actor : by.rule, isByPerson, reason };
}

/** The one way in which a host changes its phase: every set and count is kept in step. */
function move(state: RolloutState, host: HostState, phase: HostPhase): void {
  count(state, host, -1);
  host.phase = phase;
  host.sinceT = state.t;
  if (phase === 'changing') {
    host.touched = true;
    // One that was held begins only now.
    host.begunT = state.t;
    host.begunAtMs = state.atMs;
  }
  if (phase !== 'verifying') host.checks = undefined;
  count(state, host, 1);
  enlist(state.inFlight, host, isInFlight(host));
  enlist(state.waiting, host, phase === 'waiting');
  enlist(state.undoing, host, phase === 'undoing');
}

function count(state: RolloutState, host: HostState, by: 1 | -1): void {
  for (const tally of state.tallies.of(host)) {
    if (isInFlight(host)) tally.inFlight += by;
    else if (host.phase === 'done') tally.done += by;
    else if (host.phase === 'skipped') tally.skipped += by;
    else if (host.phase === 'failed' && host.failure !== undefined) tally.addFailure(host.failure.class, by);
  }
}

function enlist(set: Set<HostState>, host: HostState, belongs: boolean): void {
  if (belongs) set.add(host);
  else set.delete(host);
}

function skip(state: RolloutState, host: HostState, note: string): void {
  host.note = note;
  move(state, host, 'skipped');
}

/** Into the wave that is at work, whichever it was in. */
function tryAgain(state: RolloutState, host: HostState): void {
  count(state, host, -1);
  for (const tally of state.tallies.of(host)) tally.planned -= 1;
  host.wave = state.wave;
  host.phase = 'pending';
  host.sinceT = state.t;
  host.note = undefined;
  for (const tally of state.tallies.of(host)) tally.planned += 1;
  enqueue(state, host);
}

/** People have looked: what waited for them goes on, and checks begin anew. */
function letGoOn(state: RolloutState): void {
  state.paused = undefined;
  state.acceptedFailures = state.tallies.all.failed;
  state.progressT = state.t;
  if (state.gate !== undefined) state.gate = newRun(state.nextRun++, state.t);
  for (const host of state.inFlight) {
    if (host.phase === 'held') move(state, host, 'changing');
    if (host.checks?.stopped === true) host.checks = newRun(state.nextRun++, state.t);
  }
}

/** Nothing goes forward any more: what was not touched stays so, and what was changed is left as it is. Commands under way end. */
function settleUntouched(state: RolloutState): void {
  for (const host of state.hosts.values()) {
    if (host.phase === 'verifying') {
      host.note = UNWATCHED;
      host.failure = undefined;
      move(state, host, 'done');
    } else if (WAITS_FOR_ITS_CHANGE.has(host.phase)) {
      // One that was to be tried again is what its first attempt has left.
      if (!host.touched) host.failure = undefined;
      move(state, host, host.touched ? 'failed' : 'not-started');
    }
  }
  state.pending.clear();
}

function grow(state: RolloutState): void {
  const { ramp } = state.spec;
  state.grownBy += 1;
  if (ramp === undefined || state.grownBy < state.window) return;
  state.window = Math.min(state.maxInFlight, Math.ceil(state.window * ramp.factor));
  state.grownBy = 0;
}

function hostOf(state: RolloutState, name: string): HostState {
  const host = state.hosts.get(name);
  if (host === undefined) throw new Error(`rollout ${state.id} has no host ${name}`);
  return host;
}
