/** What of a rollout's spec a schema cannot say: that its methods are there and may be repeated, and that it could begin at all. */
import { FairleadError } from '../../shared/errors.ts';
import type { Role } from '../../shared/protocol/contract.ts';
import { isMethodName, methodContract } from '../../shared/protocol/methods.ts';
import type { RolloutSpec, Step } from '../../shared/protocol/rollout-spec.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { hasRole } from '../auth/principal.ts';

/** `role`: of whoever starts the rollout. @throws FairleadError INVALID_PARAMS, PERMISSION_DENIED */
export function checkSpec(spec: RolloutSpec, role: Role): void {
  const { strict, thresholds, windows, steps, approval } = spec;
  if (strict && thresholds.some(({ max }) => max === 0)) {
    refuse('thresholds', 'strict mode with a threshold of 0 could start no host at all: tolerate at least 1');
  }
  if (approval === 'none' && !steps.every(isReversible)) {
    refuse('steps', 'a call without `undo` cannot be taken back: give it one, or ask for a person with `approval: anyone`');
  }
  for (const [index, { timeZone }] of windows.entries()) {
    if (!isTimeZone(timeZone)) refuse(`windows.${index}.timeZone`, `${timeZone} is no IANA time zone, such as Europe/Berlin`);
  }
  checkWebhooks(spec);
  checkSteps(spec, role);
}

/** Nobody could ever ask it, and the name would be read by all. */
function checkWebhooks({ health, waves }: RolloutSpec): void {
  const checks = [...health.checks, ...waves.flatMap(({ gate }) => gate?.checks ?? [])];
  for (const check of checks) {
    if (check.kind !== 'webhook') continue;
    const { username, password } = new URL(check.url);
    if (username !== '' || password !== '') refuse('checks', 'the address of a webhook cannot have a name and a password in it');
  }
}

function checkSteps({ steps }: RolloutSpec, role: Role): void {
  for (const [index, step] of steps.entries()) {
    if (step.kind === 'vm') continue;
    if (step.kind === 'agent') {
      const { kind: _, ...params } = step;
      checkCall({ method: 'agent.update', params }, role, `steps.${index}`);
      continue;
    }
    checkCall(step, role, `steps.${index}`);
    if (step.undo !== undefined) checkCall(step.undo, role, `steps.${index}.undo`);
  }
}

/** What a rollout calls may be sent again after a crash of whoever knows how it ended, so it must bear that. */
function checkCall(
  { method, params }: Pick<Extract<Step, { kind: 'call' }>, 'method' | 'params'>,
  role: Role,
  where: string,
): void {
  if (!isMethodName(method)) refuse(`${where}.method`, `there is no method ${method}`);
  const { target, kind, idempotent, role: needed } = methodContract(method);
  if (target !== 'agent' || kind !== 'call') refuse(`${where}.method`, `${method} is nothing that a host is called for`);
  if (!idempotent) refuse(`${where}.method`, `${method} may not be repeated, so no rollout can call it`);
  if (!hasRole(role, needed)) throw new FairleadError('PERMISSION_DENIED', `${where}.method: ${method} needs the role ${needed}`);
  parseParams(method, params);
}

function isReversible(step: Step): boolean {
  return step.kind !== 'call' || step.undo !== undefined;
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

function refuse(where: string, why: string): never {
  throw new FairleadError('INVALID_PARAMS', `params.spec.${where}: ${why}`);
}
