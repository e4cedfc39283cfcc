/** What of a rollout's spec a schema cannot say: that its methods are there and may be repeated, and that it could begin at all. */
import { FairleadError } from '../../shared/errors.ts';
import type { Role } from '../../shared/protocol/contract.ts';
import { isMethodName, methodContract } from '../../shared/protocol/methods.ts';
import type { RolloutPlan } from '../../shared/protocol/rollout-plan.ts';
import type { RolloutSpec, Step } from '../../shared/protocol/rollout-spec.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { hasRole } from '../auth/principal.ts';
import { strictLimit } from './core/thresholds.ts';

/** `role`: of whoever starts the rollout. @throws FairleadError INVALID_PARAMS, PERMISSION_DENIED */
export function checkSpec(spec: RolloutSpec, role: Role): void {
  const { windows, steps, approval, budget } = spec;
  for (const [name, amount] of Object.entries(budget)) {
    if (amount === 0) refuse(`budget.${name}`, 'a budget of 0 could start no host at all: let at least 1 be unavailable');
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

/** In strict mode a share of few hosts may be none of them, and then none of them could ever be started. @throws FairleadError INVALID_PARAMS */
export function checkStrictPlan(spec: RolloutSpec, { hosts }: RolloutPlan): void {
  const scopes = {
    rollout: Map.groupBy(hosts, () => 'this rollout'),
    zone: Map.groupBy(hosts, ({ zone }) => `zone ${zone}`),
    wave: Map.groupBy(hosts, ({ wave }) => `wave ${wave}`),
  };
  for (const level of ['rollout', 'zone', 'wave'] as const) {
    for (const [scope, { length }] of scopes[level]) {
      if (strictLimit(spec, level, length) > 0) continue;
      const message = `strict mode could start none of the ${length} hosts of ${scope}: its thresholds have to tolerate at least 1 failure there`;
      refuse('thresholds', message);
    }
  }
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
