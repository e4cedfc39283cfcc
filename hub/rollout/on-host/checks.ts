/** One round of checks: of a host after its change, or of the gate of a wave. All of them must be good; the first that is not is told. */
import { type JsonObject, toFairleadError } from '../../../shared/errors.ts';
import { parseWith } from '../../../shared/protocol/parse-with.ts';
import type { Check, GateRules, HealthRules } from '../../../shared/protocol/rollout-spec.ts';
import type { Actuator, Observation } from '../actuator.ts';
import type { HostCommands } from './host-commands.ts';
import { listVms, RecordedVms } from './vm-step.ts';

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

export interface GateRound {
  readonly rollout: string;
  readonly wave: number;
  readonly rules: GateRules;
  readonly actuator: Actuator;
  readonly figures: JsonObject;
  readonly signal: AbortSignal;
}

export async function checkGate({ rollout, wave, rules, actuator, figures, signal }: GateRound): Promise<Observation> {
  for (const { url } of rules.checks) {
    const observed = await actuator.webhook(url, { rollout, wave, ...figures }, { timeoutMs: rules.timeoutMs, signal });
    signal.throwIfAborted();
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
      if (!vm.ready && hasReadyPort(vm.spec)) return { answer: 'failure', detail: `VM ${name} is not ready` };
    }
    return GOOD;
  } catch (error) {
    return { answer: 'inconclusive', detail: toFairleadError(error).message };
  }
}

function vmsThatRan(previous: readonly unknown[]): readonly string[] {
  return previous.flatMap((value) => {
    const isOfVms = typeof value === 'object' && value !== null && 'vms' in value;
    if (!isOfVms) return [];
    return parseWith(RecordedVms, value, 'previous', 'INTERNAL').vms.flatMap(({ name, ran }) => (ran ? [name] : []));
  });
}

function hasReadyPort({ vsock }: JsonObject): boolean {
  return typeof vsock === 'object' && vsock !== null && 'readyPort' in vsock;
}
