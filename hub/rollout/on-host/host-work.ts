/** What is done to one host: recording how it is, its steps one after the other, and taking them back in the opposite order. */
import type { JsonObject } from '../../../shared/errors.ts';
import type { RolloutSpec, Step } from '../../../shared/protocol/rollout-spec.ts';
import { changeAgent, recordAgent, restoreAgent } from './agent-step.ts';
import type { HostCommands } from './host-commands.ts';
import { changeVms, recordVms, restoreVms } from './vm-step.ts';

/** One value a step, for the journal. */
export async function recordHost(spec: RolloutSpec, commands: HostCommands): Promise<unknown[]> {
  const previous: unknown[] = [];
  for (const step of spec.steps) previous.push(await recordStep(step, commands));
  return previous;
}

async function recordStep(step: Step, commands: HostCommands): Promise<unknown> {
  if (step.kind === 'vm') return recordVms(step, commands);
  return step.kind === 'agent' ? recordAgent(commands) : {};
}

/** @throws FairleadError what the first command that fails throws */
export async function changeHost(spec: RolloutSpec, previous: readonly unknown[], commands: HostCommands): Promise<void> {
  for (const [index, step] of spec.steps.entries()) {
    const place = `step ${index}`;
    if (step.kind === 'vm') await changeVms(step, place, previous[index], commands);
    else if (step.kind === 'agent') await changeAgent(step, place, commands);
    else await commands.run(place, step.method, paramsOf(step));
  }
}

/** Also of steps that were not begun: what is as it was recorded stays so. @throws FairleadError likewise */
export async function restoreHost(spec: RolloutSpec, previous: readonly unknown[], commands: HostCommands): Promise<void> {
  for (const [index, step] of [...spec.steps.entries()].toReversed()) {
    const place = `step ${index}`;
    if (step.kind === 'vm') await restoreVms(step, place, previous[index], commands);
    else if (step.kind === 'agent') await restoreAgent(step, place, previous[index], commands);
    else if (step.undo !== undefined) await commands.run(place, step.undo.method, paramsOf(step.undo));
  }
}

function paramsOf({ params }: Pick<Extract<Step, { kind: 'call' }>, 'params'>): JsonObject {
  // SAFETY: read from JSON as part of the spec; the host validates them by its contract.
  return params as JsonObject;
}
