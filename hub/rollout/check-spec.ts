/** What of a rollout's spec a schema cannot say: that its methods are there and may be repeated, and that it could begin at all. */
import { FairleadError } from '../../shared/errors.ts';
import type { Role } from '../../shared/protocol/contract.ts';
import { isMethodName, methodContract } from '../../shared/protocol/methods.ts';
import type { ControlCheck } from '../../shared/protocol/rollout-checks.ts';
import type { RolloutPlan } from '../../shared/protocol/rollout-plan.ts';
import type { RolloutSpec, Step } from '../../shared/protocol/rollout-spec.ts';
import { fractionOf } from '../../shared/protocol/rollout-values.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { hasRole } from '../auth/principal.ts';
import { isSequential, strictLimit } from './core/thresholds.ts';

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
  checkSequentialTests(spec);
  checkControls(spec);
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

function checkSequentialTests({ strict, thresholds }: RolloutSpec): void {
  for (const [index, threshold] of thresholds.entries()) {
    if (!isSequential(threshold)) continue;
    const where = `thresholds.${index}.sequential`;
    if (strict) {
      refuse(
        where,
        'strict mode holds a number, and a sequential test has none: give the threshold a `max`, or leave `strict` out',
      );
    }
    const { expected, tooMany, falseAlarms } = threshold.sequential;
    const isBetween = (share: string, least: number) => fractionOf(share) > least && fractionOf(share) < 1;
    if (!isBetween(expected, 0)) refuse(`${where}.expected`, 'must be more than 0%: where no host may fail, say `max: 0`');
    if (!isBetween(tooMany, fractionOf(expected))) refuse(`${where}.tooMany`, `must be more than ${expected} and less than 100%`);
    if (!isBetween(falseAlarms, 0)) refuse(`${where}.falseAlarms`, 'must be more than 0% and less than 100%');
  }
}

/** A control group that has too few hosts in the plan could only pause. @throws FairleadError INVALID_PARAMS */
export function checkControlPlan(spec: RolloutSpec, { hosts }: RolloutPlan): void {
  for (const { wave, where, minHosts } of controlsOf(spec)) {
    const left = hosts.filter((host) => host.wave > wave).length;
    if (left >= minHosts) continue;
    const message = `${left} of the ${hosts.length} hosts are left unchanged after wave ${wave}, and its control group needs ${minHosts}: change fewer up to there, or lower \`minHosts\``;
    refuse(where, message);
  }
}

function checkControls(spec: RolloutSpec): void {
  for (const { wave, where, hosts, minHosts, checks = spec.health.checks } of controlsOf(spec)) {
    if (wave === spec.waves.length - 1) {
      refuse(
        where,
        'after the last wave no host is unchanged to compare with: leave it out there, or let a further wave come after it',
      );
    }
    if (minHosts > hosts)
      refuse(where, `asks ${hosts} hosts of each side and needs ${minHosts}: raise \`hosts\`, or lower \`minHosts\``);
    if (checks.length === 0) {
      refuse(where, 'there is nothing to ask the hosts: give it `checks`, or the rollout `health.checks`, which it then takes');
    }
  }
}

function controlsOf({ waves }: RolloutSpec): (ControlCheck & { readonly wave: number; readonly where: string })[] {
  return waves.flatMap(({ gate }, wave) =>
    (gate?.checks ?? []).flatMap((check, index) =>
      check.kind === 'control' ? [{ ...check, wave, where: `waves.${wave}.gate.checks.${index}` }] : [],
    ),
  );
}

/** Nobody could ever ask it, and the name would be read by all. */
function checkWebhooks({ health, waves }: RolloutSpec): void {
  const ofGates = waves.flatMap(({ gate }) => gate?.checks ?? []);
  const checks = [...health.checks, ...ofGates.flatMap((check) => (check.kind === 'control' ? (check.checks ?? []) : check))];
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
