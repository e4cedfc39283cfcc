/**
 * The state of a rollout: what its events have made of it (evolve.ts). It holds nothing that they do not say, but for the checks that are
 * under way, which begin anew when a hub takes the rollout over.
 *
 * The rollout:
 *
 *     forward ──all waves passed──▶ ended: completed ──retry failed──▶ forward
 *        │  ▲
 *        │  └─ paused and resumed, in any stage; what is under way goes on, nothing new begins
 *        ├──abort──▶ aborting ──the last command has ended──▶ ended: aborted
 *        └──rollback──▶ backward ──all restored──▶ ended: rolled-back
 *                       ▲   └──one was not, the others under way have ended──▶ ended: rollback-failed
 *                       └── rollback, from aborting and every end but rolled-back
 *
 *     Stages of a wave, on the way forward:
 *     to-be-approved ─▶ hosts ─▶ soak ─▶ gate ─▶ approval ─▶ the next wave's hosts … ─▶ late-joiners ─▶ the end
 *                         ▲───────┴───────┴─────────┘ hosts that are tried again
 *
 * A host:
 *
 *     pending ◀──▶ waiting (no line)                          skipped (by a person, or passed over)
 *        │            └─────────────────────────────────────────▲
 *        ├───▶ recording ─▶ held (paused) ─▶ changing ─▶ verifying ─▶ done
 *        │         └──────────────▲──────────┴─────────────┴─▶ failed ─▶ pending (tried again)
 *        │  recorded before, or not in need of it
 *        └───▶ not-started (the rollout ended before)
 *     done, failed, undo-failed ─▶ undoing ─▶ restored
 *                                     └─────▶ undo-failed
 *
 * A host is touched from `changing` on: only then can there be something to take back.
 */
import type { Outcome } from '../../../shared/protocol/rollout-events.ts';
import type { PlannedHost, RolloutPlan } from '../../../shared/protocol/rollout-plan.ts';
import type { FailureClass, RollbackScope, RolloutSpec } from '../../../shared/protocol/rollout-spec.ts';
import type { HostPhase, Stage } from '../../../shared/protocol/rollout-status.ts';
import type { CheckRun } from './check-run.ts';
import { Tallies } from './tally.ts';

export interface HostState {
  readonly host: string;
  readonly zone: string;
  /** It had no line when the rollout was planned. */
  readonly away: boolean;
  /** It moves to a later one when it is tried again. */
  wave: number;
  phase: HostPhase;
  /** From 1; each has command ids of its own. */
  attempt: number;
  undoAttempt: number;
  /** Since when it is in its phase; and since when its recording, change or undo runs. Rollout time, as all times here. */
  sinceT: number;
  begunT: number;
  /** The same in Unix milliseconds: ids of its commands carry it. */
  begunAtMs: number;
  /** Place in the order of the first starts. */
  order: number;
  touched: boolean;
  /**
   * What it was like before the first attempt, one value a step. It is recorded once, so that a repeat never records what a failure left; where
   * no step needs it, it is there from the beginning.
   */
  previous: readonly unknown[] | undefined;
  failure: { readonly class: FailureClass; readonly error: string } | undefined;
  /** Why it was skipped or could not be restored, or that nobody has watched its health to the end. */
  note: string | undefined;
  /** While it is verified. */
  checks: CheckRun | undefined;
}

export type RolloutPhase =
  | { readonly kind: 'forward' }
  | { readonly kind: 'aborting' }
  | {
      readonly kind: 'backward';
      /** What is to be taken back, newest last; those that were begun stay in it. */
      readonly backlog: HostState[];
      /** One could not be restored, so no further one is begun. */
      failed: boolean;
    }
  | { readonly kind: 'ended'; readonly outcome: Outcome };

/** `by`: the person, or the rule of the rollout. */
export interface Because {
  readonly by: string;
  readonly isByPerson: boolean;
  readonly reason: string;
}

/** Hosts of a wave that wait for their turn, zone by zone. */
export type PendingHosts = Map<string, HostState[]>;

export interface RolloutState {
  readonly id: string;
  readonly spec: RolloutSpec;
  readonly plan: RolloutPlan;
  readonly startedBy: string;
  readonly hosts: Map<string, HostState>;
  readonly tallies: Tallies;
  /** Those that wait for their turn, by wave. */
  readonly pending: Map<number, PendingHosts>;
  /** Their turn has come, but they have no line. */
  readonly waiting: Set<HostState>;
  /** On their way forward, in the order in which they were started. */
  readonly inFlight: Set<HostState>;
  readonly undoing: Set<HostState>;
  phase: RolloutPhase;
  paused: Because | undefined;
  /** Why it was aborted or is taken back. */
  stopped: Because | undefined;
  wave: number;
  /** Number of the last wave, late joiners included. */
  lastWave: number;
  stage: Stage;
  stageSinceT: number;
  gate: CheckRun | undefined;
  approvedBy: string | undefined;
  maxInFlight: number;
  /** Hosts that may be under way at once just now; see the ramp. */
  window: number;
  /** That have made it since the window last changed. */
  grownBy: number;
  /** Failures that people have seen and let it go on with: the next one beyond them counts. */
  acceptedFailures: number;
  /** When a host last made it, or people last let it go on. */
  progressT: number;
  started: number;
  t: number;
  atMs: number;
  /** Number for the next check run, so that a late answer finds no other run. */
  nextRun: number;
}

export function newState(id: string, spec: RolloutSpec, plan: RolloutPlan, startedBy: string): RolloutState {
  const state: RolloutState = {
    id,
    spec,
    plan,
    startedBy,
    hosts: new Map(),
    tallies: new Tallies(),
    pending: new Map(),
    waiting: new Set(),
    inFlight: new Set(),
    undoing: new Set(),
    phase: { kind: 'forward' },
    paused: undefined,
    stopped: undefined,
    wave: 0,
    lastWave: spec.waves.length - 1,
    stage: spec.approval === 'none' ? 'hosts' : 'to-be-approved',
    stageSinceT: 0,
    gate: undefined,
    approvedBy: undefined,
    maxInFlight: spec.maxInFlight,
    window: spec.ramp === undefined ? spec.maxInFlight : Math.min(spec.ramp.from, spec.maxInFlight),
    grownBy: 0,
    acceptedFailures: 0,
    progressT: 0,
    started: 0,
    t: 0,
    atMs: 0,
    nextRun: 1,
  };
  for (const host of plan.hosts) addHost(state, host);
  return state;
}

export function addHost(state: RolloutState, { host, zone, wave, away }: PlannedHost): void {
  const added: HostState = {
    host,
    zone,
    away: away === true,
    wave,
    phase: 'pending',
    attempt: 0,
    undoAttempt: 0,
    sinceT: state.t,
    begunT: state.t,
    begunAtMs: state.atMs,
    order: 0,
    touched: false,
    previous: recordedAlready(state.spec),
    failure: undefined,
    note: undefined,
    checks: undefined,
  };
  state.hosts.set(host, added);
  for (const tally of state.tallies.of(added)) tally.planned += 1;
  enqueue(state, added);
}

/** A call is taken back by another call, whatever was there before. */
function recordedAlready({ steps }: RolloutSpec): HostState['previous'] {
  return steps.every(({ kind }) => kind === 'call') ? steps.map(() => ({})) : undefined;
}

/** Behind those of its zone that wait already. */
export function enqueue({ pending }: RolloutState, host: HostState): void {
  const wave = pending.get(host.wave) ?? new Map<string, HostState[]>();
  pending.set(host.wave, wave);
  const zone = wave.get(host.zone);
  if (zone === undefined) wave.set(host.zone, [host]);
  else zone.push(host);
}

export function isInFlight({ phase }: HostState): boolean {
  return phase === 'recording' || phase === 'held' || phase === 'changing' || phase === 'verifying';
}

/** Whether this rollout keeps it from its work, as far as can be known. */
export function isDisrupted(state: RolloutState, host: HostState): boolean {
  if (isInFlight(host) || host.phase === 'undoing') return true;
  if (state.phase.kind === 'ended') return false;
  return host.touched && (host.phase === 'failed' || host.phase === 'undo-failed');
}

/** Whom a rollback of that scope takes back. */
export function inScope(state: RolloutState, scope: RollbackScope): (host: HostState) => boolean {
  if (scope === 'touched') return () => true;
  if (scope === 'failed') return (host) => host.failure !== undefined || isInFlight(host);
  const zones = new Set<string>();
  for (const host of state.hosts.values()) if (host.failure !== undefined) zones.add(host.zone);
  return ({ zone }) => zones.has(zone);
}
