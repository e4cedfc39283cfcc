/** One round of checks of a host after its change. All of them must be good; the first that is not is told. */
import { type JsonObject, toFairleadError } from '../../../shared/errors.ts';
import { parseWith } from '../../../shared/protocol/parse-with.ts';
import type { Check, HealthRules } from '../../../shared/protocol/rollout-checks.ts';
import type { Actuator, Observation } from '../actuator.ts';
import type { HostCommands } from './host-commands.ts';
import { listVms, RecordedVms, type Vm } from './vm-step.ts';

const GOOD: Observation = { answer: 'success', detail: '' };

export interface HostRound {
  readonly rollout: string;
  readonly rules: HealthRules;
  readonly actuator: Actuator;
  readonly commands: HostCommands;
  readonly previous: readonly unknown[];
  readonly signal: AbortSignal;
}

/** Never rejects, but when it is aborted. */
export async function checkHost(round: HostRound): Promise<Observation> {
  for (const check of round.rules.checks) {
    const observed = await observe(check, round);
    round.signal.throwIfAborted();
    if (observed.answer !== 'success') return observed;
  }
  return GOOD;
}

async function observe(check: Check, round: HostRound): Promise<Observation> {
  const { rollout, rules, actuator, commands, signal } = round;
  const { timeoutMs } = rules;
  const { host } = commands;
  if (check.kind === 'webhook') return await actuator.webhook(check.url, { rollout, host }, { timeoutMs, signal });
  if (!actuator.isUp(host)) return { answer: 'failure', detail: `host ${host} has no line` };
  if (check.kind === 'vm-state') return await checkStates(round);
  for (const vm of vmsThatRan(round.previous)) {
    const observed = await actuator.probe(host, { ...check, vm, timeoutMs, signal });
    if (observed.answer !== 'success') return observed;
  }
  return GOOD;
}

const ASLEEP: ReadonlySet<string> = new Set(['suspending', 'suspended', 'resuming']);

/** One that sleeps while nobody wants it, and wakes when somebody does, is to its callers never away. */
function isAtWork({ state, spec }: { readonly state: string; readonly spec: JsonObject }): boolean {
  return state === 'running' || (ASLEEP.has(state) && spec['idle'] !== undefined);
}

/** Those that ran before run again, and are ready where their spec says how that is told. */
async function checkStates({ commands, previous }: HostRound): Promise<Observation> {
  try {
    const now = new Map((await listVms(commands)).map((vm) => [vm.name, vm]));
    for (const name of vmsThatRan(previous)) {
      const vm = now.get(name);
      if (vm === undefined || !isAtWork(vm)) return { answer: 'failure', detail: `VM ${name} is ${vm?.state ?? 'gone'}` };
      if (isUnready(vm)) return { answer: 'failure', detail: `VM ${name} is not ready` };
    }
    return GOOD;
  } catch (error) {
    return { answer: 'inconclusive', detail: toFairleadError(error).message };
  }
}

/** By what was recorded of the host before its change. */
export function vmsThatRan(previous: readonly unknown[]): readonly string[] {
  return previous.flatMap((value) => {
    const isOfVms = typeof value === 'object' && value !== null && 'vms' in value;
    if (!isOfVms) return [];
    return parseWith(RecordedVms, value, 'previous', 'INTERNAL').vms.flatMap(({ name, ran }) => (ran ? [name] : []));
  });
}

/** Its spec says how it tells that it is ready, and it has not. */
export function isUnready({ ready, spec: { vsock } }: Pick<Vm, 'ready' | 'spec'>): boolean {
  return !ready && typeof vsock === 'object' && vsock !== null && 'readyPort' in vsock;
}
