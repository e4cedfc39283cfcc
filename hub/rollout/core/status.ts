/** A rollout in a word, and in figures. */

import { FAILURE_CLASSES } from '../../../shared/protocol/rollout-spec.ts';
import type { HostPhase, RolloutHost, RolloutStatus, RolloutSummary } from '../../../shared/protocol/rollout-status.ts';
import { HOST_PHASES } from '../../../shared/protocol/rollout-status.ts';
import type { HostState, RolloutState } from './state.ts';

const OF_STAGE = {
  'to-be-approved': 'awaiting-approval',
  hosts: 'running',
  soak: 'soaking',
  gate: 'gating',
  approval: 'awaiting-approval',
  'late-joiners': 'awaiting-late-joiners',
} as const satisfies Record<RolloutState['stage'], RolloutStatus>;

export function statusOf({ phase, paused, stage }: RolloutState): RolloutStatus {
  if (phase.kind === 'ended') return phase.outcome;
  if (phase.kind === 'aborting') return 'aborting';
  if (paused !== undefined) return 'paused';
  return phase.kind === 'backward' ? 'rolling-back' : OF_STAGE[stage];
}

/** Without what the record of the rollout has, such as its name and times. */
export function figuresOf(state: RolloutState) {
  const counts = new Map<HostPhase, number>();
  for (const { phase } of state.hosts.values()) counts.set(phase, (counts.get(phase) ?? 0) + 1);
  const phases = HOST_PHASES.flatMap((phase) => {
    const count = counts.get(phase) ?? 0;
    return count === 0 ? [] : [[phase, count] as const];
  });
  const { all } = state.tallies;
  const failures = FAILURE_CLASSES.filter((failure) => all.failedAs(failure) > 0).map((failure) => [
    failure,
    all.failedAs(failure),
  ]);
  return {
    rollout: state.id,
    status: statusOf(state),
    startedBy: state.startedBy,
    revision: state.plan.revision,
    hostsDigest: state.plan.hostsDigest,
    wave: state.wave,
    waves: state.lastWave + 1,
    stage: state.stage,
    hosts: state.hosts.size,
    phases: Object.fromEntries(phases),
    failures: Object.fromEntries(failures),
    inFlight: state.inFlight.size + state.undoing.size,
    window: state.window,
    maxInFlight: state.maxInFlight,
    ...(state.paused === undefined ? {} : { paused: { by: state.paused.by, reason: state.paused.reason } }),
    ...(state.stopped === undefined ? {} : { stopped: state.stopped }),
  } satisfies Partial<RolloutSummary>;
}

export function hostRow({ host, zone, wave, phase, attempt, touched, failure, note }: HostState): RolloutHost {
  return {
    host,
    zone,
    wave,
    phase,
    attempt,
    touched,
    ...(failure === undefined ? {} : { failure }),
    ...(note === undefined ? {} : { note }),
  };
}
