/**
 * Starting hosts of the wave at work: in their order, as many as the window takes, in no more zones at once than may be, as far as budget and
 * thresholds let them. A window that slides, never a batch: the next host starts as soon as one has ended.
 */
import type { RolloutSpec } from '../../../shared/protocol/rollout-spec.ts';
import { failHost } from './hear-report.ts';
import { compare } from './host-order.ts';
import { Room } from './room.ts';
import type { HostState, RolloutState } from './state.ts';
import { mayRisk } from './thresholds.ts';
import type { Turn } from './turn.ts';

/** How the reason begins that is given for a zone where nothing may be started now. */
export const CLOSED = 'changes wait';

/** Returns what keeps the next host from being started, if it is not just the window. */
export function startHosts(turn: Turn): string | undefined {
  settleWaiting(turn);
  const room = new Room(turn.world);
  let blocked: string | undefined;
  for (const zone of zonesInTurn(turn.state)) {
    if (!mayEnter(turn.state, zone)) continue;
    blocked = startInZone(turn, zone, room) ?? blocked;
    if (turn.state.inFlight.size >= turn.state.window) return undefined;
  }
  return blocked;
}

function startInZone(turn: Turn, zone: string, room: Room): string | undefined {
  const { state, world } = turn;
  for (;;) {
    const host = nextPending(state, zone);
    if (host === undefined || state.inFlight.size >= state.window || !mayEnter(state, zone)) return undefined;
    const blocked = obstacle(turn, host, room);
    if (blocked !== undefined) return blocked;
    state.pending.get(host.wave)?.get(zone)?.shift();
    if (!world.isUp(host.host)) {
      handleUnreachable(turn, host);
      continue;
    }
    room.take(host);
    turn.emit({ type: 'host-started', host: host.host, attempt: host.attempt + 1 });
  }
}

function obstacle({ state, world }: Turn, host: HostState, room: Room): string | undefined {
  const closed = world.closed(host.zone);
  if (closed !== undefined) return `${CLOSED}: ${closed}`;
  if (!mayRisk(state, host)) return 'in strict mode no further host may be under way: a threshold could be passed';
  return room.obstacle(host);
}

function handleUnreachable(turn: Turn, host: HostState): void {
  const { policy } = turn.state.spec.unreachable;
  if (policy === 'wait') turn.emit({ type: 'host-waiting', host: host.host });
  else if (policy === 'skip')
    turn.emit({ type: 'host-passed-over', host: host.host, reason: 'it had no line when its turn came' });
  else failHost(turn, host, 'unreachable', 'it had no line when its turn came');
}

/** Those that are back get their turn again; those that were away too long lose it. */
function settleWaiting(turn: Turn): void {
  const { state, world } = turn;
  const { waitMs } = state.spec.unreachable;
  for (const { host, sinceT } of state.waiting) {
    if (world.isUp(host)) turn.emit({ type: 'host-back', host });
    else if (world.t - sinceT >= waitMs) {
      turn.emit({ type: 'host-passed-over', host, reason: `it had no line for ${waitMs} ms` });
    }
  }
}

/** Those that were skipped meanwhile are left behind. */
function nextPending({ pending, wave }: RolloutState, zone: string): HostState | undefined {
  const queue = pending.get(wave)?.get(zone) ?? [];
  for (;;) {
    const [host] = queue;
    if (host === undefined || (host.phase === 'pending' && host.wave === wave)) return host;
    queue.shift();
  }
}

/** With sequential zones, only the first in which there is anything left to be done; those that wait for a line hold up no other. */
function zonesInTurn(state: RolloutState): readonly string[] {
  const { spec, pending, wave } = state;
  const waiting = [...(pending.get(wave)?.keys() ?? [])];
  if (!isSequential(spec)) return waiting;
  const open = new Set(waiting.filter((zone) => nextPending(state, zone) !== undefined));
  for (const host of state.inFlight) open.add(host.zone);
  return [...open].sort(compare).slice(0, 1);
}

function mayEnter({ spec, tallies }: RolloutState, zone: string): boolean {
  if (tallies.zone(zone).inFlight > 0) return true;
  const limit = isSequential(spec) ? 1 : spec.zones.maxInFlight;
  return tallies.zones.values().reduce((busy, { inFlight }) => (inFlight > 0 ? busy + 1 : busy), 0) < limit;
}

function isSequential({ zones }: RolloutSpec): boolean {
  return zones.order === 'sequential';
}
