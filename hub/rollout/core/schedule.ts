/**
 * What the rollout does by itself: fail what is overdue, stop at a threshold, start and take back hosts, go from stage to stage, and end. Called
 * after whatever happened, be it much at once, and from time to time.
 */
import { failHost } from './hear-report.ts';
import { react } from './react.ts';
import { nextStage } from './stages.ts';
import { CLOSED, startHosts } from './start-hosts.ts';
import { trippedThreshold } from './thresholds.ts';
import type { Turn } from './turn.ts';
import { undoHosts } from './undo-hosts.ts';

/** Beyond a host's own time, for its last answer to arrive. */
const GRACE_MS = 5_000;

/** Returns why no further host is started, where that is no matter of its turn. */
export function schedule(turn: Turn): string | undefined {
  failOverdue(turn);
  heedThresholds(turn);
  const { state } = turn;
  switch (state.phase.kind) {
    case 'forward':
      return state.paused === undefined ? goForward(turn) : undefined;
    case 'aborting':
      if (state.inFlight.size + state.undoing.size === 0) turn.emit({ type: 'ended', outcome: 'aborted' });
      return undefined;
    case 'backward':
      return state.paused === undefined ? undoHosts(turn) : undefined;
    case 'ended':
      return undefined;
  }
}

function goForward(turn: Turn): string | undefined {
  const { state } = turn;
  for (;;) {
    const { stage, wave } = state;
    const blocked = stage === 'hosts' ? startHosts(turn) : gateObstacle(turn);
    nextStage(turn);
    const isFurther =
      state.phase.kind === 'forward' && state.paused === undefined && (state.stage !== stage || state.wave !== wave);
    if (isFurther) continue;
    if (state.phase.kind === 'forward' && state.paused === undefined) heedProgress(turn, blocked);
    return blocked;
  }
}

/** What the last round of the gate has found, while it is asked again. */
function gateObstacle({ state: { stage, wave, gate } }: Turn): string | undefined {
  return stage !== 'gate' || gate?.detail === undefined ? undefined : `the gate of wave ${wave}: ${gate.detail}`;
}

export function heedThresholds(turn: Turn): void {
  const { phase, tallies, acceptedFailures } = turn.state;
  if (phase.kind !== 'forward' || tallies.all.failed <= acceptedFailures) return;
  const tripped = trippedThreshold(turn.state);
  if (tripped !== undefined) react(turn, 'threshold', tripped.threshold.action, tripped.reason);
}

/** Commands have deadlines of their own; this is for hosts from which nothing is heard at all. */
function failOverdue(turn: Turn): void {
  const { state, world } = turn;
  const latest = world.t - state.spec.hostTimeoutMs - GRACE_MS;
  const within = `within ${state.spec.hostTimeoutMs} ms`;
  for (const host of state.inFlight) {
    if (host.begunT > latest || (host.phase !== 'recording' && host.phase !== 'changing')) continue;
    const isUp = world.isUp(host.host);
    failHost(
      turn,
      host,
      isUp ? 'timed-out' : 'unreachable',
      isUp ? `it did not end ${within}` : `its line was not back ${within}`,
    );
  }
  for (const { host, begunT } of state.undoing) {
    if (begunT <= latest) turn.emit({ type: 'undo-failed', host, error: `it was not taken back ${within}` });
  }
}

/** Waiting for a window or a thaw is no lack of progress. */
function heedProgress(turn: Turn, blocked: string | undefined): void {
  const { state, world } = turn;
  const { progress } = state.spec;
  if (state.stage !== 'hosts' || (blocked?.startsWith(CLOSED) === true && state.inFlight.size === 0)) {
    state.progressT = world.t;
    return;
  }
  if (progress === undefined || world.t - state.progressT < progress.withinMs) return;
  const why = blocked === undefined ? '' : `; ${blocked}`;
  react(turn, 'progress', progress.action, `no host has made it for ${progress.withinMs} ms${why}`);
}
