/**
 * What to do with one VM so that it becomes as desired: one step at a time, from what is seen now and not from what was done before, so that
 * it does not matter who changed what in between. Pure.
 */
import type { DesiredVm } from '../../shared/protocol/methods-desired.ts';
import { APPLY_LABEL, SPEC_LABEL } from '../../shared/protocol/methods-desired.ts';
import type { VmInfo, VmState } from '../../shared/protocol/vm.ts';

export type Step =
  | { readonly do: 'nothing' }
  /** `adopt`: ours by its labels, made by a keeper that ended before it could note that. `forget`: what was made here is gone. */
  | { readonly do: 'adopt' | 'create' | 'start' | 'stop' | 'remove' | 'forget' }
  /** Not now, and why. */
  | { readonly do: 'wait'; readonly reason: string }
  | { readonly do: 'conflict'; readonly reason: string };

const AT_REST: ReadonlySet<VmState> = new Set(['created', 'stopped', 'crashed']);
const ON_THE_WAY: ReadonlySet<VmState> = new Set(['starting', 'stopping', 'suspending', 'resuming']);

/** `ownedUuid`: of the VM of that name that was made here. A VM to be replaced is removed first, and created after that. */
export function decide(desired: DesiredVm | undefined, actual: VmInfo | undefined, ownedUuid: string | undefined): Step {
  if (actual === undefined) return { do: desired === undefined ? 'forget' : 'create' };
  const isOurs = actual.uuid === ownedUuid;
  if (desired === undefined) return isOurs ? removal(actual) : { do: 'forget' };
  if (!isOurs) {
    if (hasLabelsOf(actual, desired)) return { do: 'adopt' };
    return { do: 'conflict', reason: `a VM ${actual.name} is here that was not made for this: rename one, or delete it` };
  }
  if (ON_THE_WAY.has(actual.state)) return { do: 'wait', reason: `it is ${actual.state}` };
  if (actual.labels[SPEC_LABEL] !== desired.spec.labels[SPEC_LABEL]) {
    if (desired.replace === 'at-once' || AT_REST.has(actual.state)) return { do: 'remove' };
    return { do: 'wait', reason: 'its spec is another now, and it is replaced once it is at rest' };
  }
  return powerStep(desired, actual);
}

function removal(actual: VmInfo): Step {
  return ON_THE_WAY.has(actual.state) ? { do: 'wait', reason: `it is ${actual.state}` } : { do: 'remove' };
}

function powerStep({ power }: DesiredVm, { state, restart }: VmInfo): Step {
  if (power === 'stopped') return AT_REST.has(state) ? { do: 'nothing' } : { do: 'stop' };
  if (!AT_REST.has(state)) return { do: 'nothing' };
  // Its own restart policy is at it.
  return restart?.dueAt === undefined ? { do: 'start' } : { do: 'wait', reason: 'its restart policy starts it' };
}

function hasLabelsOf({ labels }: VmInfo, { spec }: DesiredVm): boolean {
  return [APPLY_LABEL, SPEC_LABEL].every((key) => labels[key] !== undefined && labels[key] === spec.labels[key]);
}
