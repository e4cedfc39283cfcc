/** From a selector to hosts of the fleet, and the checks of a spec that need the contract. */
import { FairleadError } from '../../shared/errors.ts';
import type { Role } from '../../shared/protocol/contract.ts';
import { isMethodName, methodContract } from '../../shared/protocol/methods.ts';
import type { RolloutSpec, Step } from '../../shared/protocol/rollout-spec.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { hasRole } from '../auth/principal.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Candidate } from './core/host-order.ts';

/** Labels that say where a host is and what it is. */
const ZONE_LABEL = 'zone';
const HARDWARE_LABEL = 'hardware';
const NO_ZONE = 'default';

/** @throws FairleadError NOT_FOUND for a host that is named and not enrolled */
export async function selectHosts(store: Store, { hosts: names, labels }: RolloutSpec['selector']): Promise<Candidate[]> {
  const enrolled = await store.collection(HOSTS).list();
  const wanted = names === undefined ? undefined : new Set(names);
  const found = enrolled.map(({ value }) => value).filter((host) => isSelected(host, wanted, labels));
  const known = new Set(enrolled.map(({ value }) => value.host));
  const missing = names?.find((name) => !known.has(name));
  if (missing !== undefined)
    throw new FairleadError('NOT_FOUND', `no host ${missing} is enrolled, which the rollout's selector names`);
  return found.map(candidateOf);
}

function isSelected(host: HostState, names: ReadonlySet<string> | undefined, labels: Readonly<Record<string, string>>): boolean {
  if (names !== undefined && !names.has(host.host)) return false;
  return Object.entries(labels).every(([key, value]) => host.labels[key] === value);
}

function candidateOf({ host, labels, agentVersion = '' }: HostState): Candidate {
  return { host, zone: labels[ZONE_LABEL] ?? NO_ZONE, agentVersion, hardware: labels[HARDWARE_LABEL] ?? '' };
}

/** `role`: of whoever starts the rollout. @throws FairleadError INVALID_PARAMS, PERMISSION_DENIED */
export function checkSteps({ steps }: RolloutSpec, role: Role): void {
  for (const [index, step] of steps.entries()) {
    if (step.kind !== 'call') continue;
    checkCall(step, role, `params.spec.steps.${index}`);
    if (step.undo !== undefined) checkCall(step.undo, role, `params.spec.steps.${index}.undo`);
  }
}

/** What a rollout calls may be sent again after a crash of whoever knows how it ended, so it must bear that. */
function checkCall(
  { method, params }: Pick<Extract<Step, { kind: 'call' }>, 'method' | 'params'>,
  role: Role,
  where: string,
): void {
  if (!isMethodName(method)) throw new FairleadError('INVALID_PARAMS', `${where}.method: there is no method ${method}`);
  const { target, kind, idempotent, role: needed } = methodContract(method);
  if (target !== 'agent' || kind !== 'call')
    throw new FairleadError('INVALID_PARAMS', `${where}.method: ${method} is nothing that a host is called for`);
  if (!idempotent)
    throw new FairleadError('INVALID_PARAMS', `${where}.method: ${method} may not be repeated, so no rollout can call it`);
  if (!hasRole(role, needed)) throw new FairleadError('PERMISSION_DENIED', `${where}.method: ${method} needs the role ${needed}`);
  parseParams(method, params);
}
