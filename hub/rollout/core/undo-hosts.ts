/**
 * Taking hosts back to what was recorded of them: newest first, twice as many at once as on the way forward, without waves, windows or soaks; only
 * the budget stands before it. One that cannot be restored ends it: no further one is begun, and nothing goes forward again by itself.
 */
import type { HostPhase } from '../../../shared/protocol/rollout-status.ts';
import { Room } from './room.ts';
import type { HostState, RolloutState } from './state.ts';
import type { Turn } from './turn.ts';

const TO_BE_UNDONE: ReadonlySet<HostPhase> = new Set(['done', 'failed', 'skipped', 'undo-failed']);

/** Returns what keeps the next host from being taken back, if it is not just the window. */
export function undoHosts(turn: Turn): string | undefined {
  const { state } = turn;
  const { phase } = state;
  if (phase.kind !== 'backward') return undefined;
  const blocked = phase.failed ? undefined : startUndos(turn, phase.backlog);
  if (state.inFlight.size > 0 || state.undoing.size > 0) return blocked;
  if (!phase.failed && phase.backlog.some(isToBeUndone)) return blocked;
  turn.emit({ type: 'ended', outcome: phase.failed ? 'rollback-failed' : 'rolled-back' });
  return undefined;
}

function startUndos(turn: Turn, backlog: HostState[]): string | undefined {
  const { state, world } = turn;
  while (backlog.at(-1)?.phase === 'restored') backlog.pop();
  const room = new Room(world);
  const away: HostState[] = [];
  let blocked: string | undefined;
  for (const host of backlog.toReversed()) {
    if (state.undoing.size >= undoLimit(state)) return undefined;
    if (!isToBeUndone(host)) continue;
    if (!world.isUp(host.host)) {
      away.push(host);
      continue;
    }
    const obstacle = room.obstacle(host);
    blocked ??= obstacle;
    if (obstacle !== undefined) continue;
    room.take(host);
    turn.emit({ type: 'undo-started', host: host.host, attempt: host.undoAttempt + 1 });
  }
  if (blocked !== undefined || away.length === 0 || state.undoing.size > 0) return blocked;
  return waitForLines(turn, away);
}

/** Hosts without a line do not hold up the others. Once they are all that is left, they have the time of one host to come back. */
function waitForLines(turn: Turn, away: readonly HostState[]): string {
  const { state, world } = turn;
  const { hostTimeoutMs } = state.spec;
  if (world.t - state.progressT >= hostTimeoutMs) {
    for (const { host } of away) turn.emit({ type: 'undo-failed', host, error: `it had no line for ${hostTimeoutMs} ms` });
  }
  return `${away.length} hosts that are to be taken back have no line`;
}

/** Hosts that are taken back at once, at most; `maxInFlight` is that of the way forward. */
export function undoLimit({ spec, maxInFlight }: Pick<RolloutState, 'spec' | 'maxInFlight'>): number {
  return spec.rollback.maxInFlight ?? 2 * maxInFlight;
}

function isToBeUndone({ phase }: HostState): boolean {
  return TO_BE_UNDONE.has(phase);
}
