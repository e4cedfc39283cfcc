/** From one stage of a wave to the next, and from the last wave to the end. */
import { planLateJoiners } from './plan.ts';
import { react } from './react.ts';
import type { RolloutState } from './state.ts';
import type { Turn } from './turn.ts';

export function nextStage(turn: Turn): void {
  const { state, world } = turn;
  const { spec, wave } = state;
  const rules = spec.waves[wave];
  switch (state.stage) {
    case 'to-be-approved':
      if (state.approvedBy !== undefined) turn.emit({ type: 'stage-begun', wave, stage: 'hosts' });
      return;
    case 'hosts':
      if (!isSettled(state)) return;
      if (provesNothing(state))
        return react(
          turn,
          'canary',
          'pause',
          `no host of wave ${wave} was changed, so it has proved nothing: promote it to go on all the same`,
        );
      return afterHosts(turn);
    case 'soak':
      if (world.t - state.stageSinceT >= (rules?.soakMs ?? 0)) afterSoak(turn);
      return;
    case 'gate':
      if (state.gate?.passed === true) afterGate(turn);
      return;
    case 'approval':
      return;
    case 'late-joiners':
      return waitForLateJoiners(turn);
  }
}

/** What comes after the stage at hand, as if it had been passed: for a promotion, an approval, and for the schedule itself. */
export function leaveStage(turn: Turn): void {
  const { stage } = turn.state;
  if (stage === 'to-be-approved') turn.emit({ type: 'stage-begun', wave: turn.state.wave, stage: 'hosts' });
  else if (stage === 'hosts') afterHosts(turn);
  else if (stage === 'soak') afterSoak(turn);
  else if (stage === 'gate') afterGate(turn);
  else if (stage === 'approval') afterWave(turn);
}

export function isSettled({ tallies, wave }: RolloutState): boolean {
  const { settled, planned } = tallies.wave(wave);
  return settled >= planned;
}

/** The canary alone: all its hosts were skipped or could not be reached. */
function provesNothing({ tallies, wave, lastWave }: RolloutState): boolean {
  const tally = tallies.wave(wave);
  return wave === 0 && lastWave > 0 && tally.planned > 0 && tally.done === 0;
}

function afterHosts(turn: Turn): void {
  const { wave, spec } = turn.state;
  if ((spec.waves[wave]?.soakMs ?? 0) > 0) turn.emit({ type: 'stage-begun', wave, stage: 'soak' });
  else afterSoak(turn);
}

function afterSoak(turn: Turn): void {
  const { wave, spec } = turn.state;
  if (spec.waves[wave]?.gate !== undefined) turn.emit({ type: 'stage-begun', wave, stage: 'gate' });
  else afterGate(turn);
}

function afterGate(turn: Turn): void {
  const { wave, spec } = turn.state;
  if (spec.waves[wave]?.approval === true) turn.emit({ type: 'stage-begun', wave, stage: 'approval' });
  else afterWave(turn);
}

function afterWave(turn: Turn): void {
  const { wave, lastWave, spec } = turn.state;
  if (wave < lastWave) turn.emit({ type: 'stage-begun', wave: wave + 1, stage: 'hosts' });
  else if (spec.lateJoinersForMs === undefined) turn.emit({ type: 'ended', outcome: 'completed' });
  else if (turn.state.stage !== 'late-joiners') turn.emit({ type: 'stage-begun', wave, stage: 'late-joiners' });
}

/** Each that comes gives further ones the whole time again. */
function waitForLateJoiners(turn: Turn): void {
  const { id, spec, lastWave, stageSinceT } = turn.state;
  const joiners = turn.world.lateJoiners();
  if (joiners.length > 0) {
    turn.emit({ type: 'joined', hosts: planLateJoiners(id, spec, lastWave + 1, joiners) });
    turn.emit({ type: 'stage-begun', wave: lastWave + 1, stage: 'hosts' });
  } else if (turn.world.t - stageSinceT >= (spec.lateJoinersForMs ?? 0)) turn.emit({ type: 'ended', outcome: 'completed' });
}
