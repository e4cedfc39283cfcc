/**
 * What became of a command that was under way when the agent died, told by looking at the VM once it has been adopted:
 *
 *     vm.create              done when the VM is there and was not before
 *     vm.run                 likewise, and it runs; one that was made and never ran is removed, as `vm.run` itself would have
 *     vm.start               done when it runs
 *     vm.stop                done when no process is left; one that had begun is waited for
 *     vm.delete              done when it is gone
 *     vm.pause, vm.resume    by the run state that QEMU tells
 *     vm.reset               done when QEMU has told of one that came from outside since; one that it has not told of may have been lost
 *     all others             unknown, unless their owner has put a rule here
 *
 * A rule says `done` or `not-done` only of what it sees; what would be a guess is `unknown`. `not-done` lets a repeat run the command, so
 * it is said only where that does no harm.
 */
import { toFairleadError } from '../../shared/errors.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import type { VmInfo, VmState } from '../../shared/protocol/vm.ts';
import type { Vms } from '../vm/api.ts';
import { REST_STATES } from '../vm/machine.ts';
import type { CallName } from './handlers/types.ts';
import type { Reconciliation, VmBrief } from './operation-record.ts';

interface About {
  /** No other command for the same VM was under way. */
  readonly isAlone: boolean;
}

/** May ask, and may tidy up after the command. What it throws makes the outcome unknown. */
export type Reconciler = (operation: Operation, vms: Vms, about: About) => Promise<Reconciliation> | Reconciliation;
export type Reconcilers = Readonly<Partial<Record<CallName, Reconciler>>>;

/** A QEMU that does not say how it is by then leaves the question open. */
const ASK_MS = 2_000;

/** QMP's ShutdownCause of a reset by command; nobody but the agent gives commands. */
const RESET_FROM_OUTSIDE = 'host-qmp-system-reset';

/** Why a rule says nothing of a command that was not the only one. */
export const ANOTHER = 'another command for the same VM was under way, and may have made it';

const VM_RECONCILERS: Reconcilers = {
  'vm.create': (operation, vms, { isAlone }) => {
    if (operation.before !== undefined) return notDone('there was a VM of that name before');
    if (!isAlone) return unknown(ANOTHER);
    const info = infoOf(operation, vms);
    return info === undefined ? notDone('there is no such VM') : done('the VM is there', info);
  },
  'vm.run': async (operation, vms, { isAlone }) => {
    if (operation.before !== undefined) return notDone('there was a VM of that name before');
    if (!isAlone) return unknown(ANOTHER);
    const info = infoOf(operation, vms);
    if (info === undefined) return notDone('there is no such VM');
    if (!isAtRest(info)) return done('the VM runs', info);
    if (info.state === 'crashed') return unknown('the VM is there and has crashed');
    await vms.delete(info.name, { force: true });
    return notDone('the VM was made and did not start, so it was removed');
  },
  'vm.start': (operation, vms) => {
    const info = infoOf(operation, vms);
    if (info === undefined) return notDone('there is no such VM');
    if (!isAtRest(info)) return done(`it runs, generation ${info.generation}`, info);
    if (info.state !== 'crashed' || info.generation === operation.before?.generation) return notDone(`it is ${info.state}`);
    return unknown(`it may have been started and have crashed since (${info.exit?.reason ?? 'for no known reason'})`);
  },
  'vm.stop': async (operation, vms) => {
    const info = infoOf(operation, vms);
    if (info === undefined) return unknown('there is no such VM any more');
    if (isAtRest(info)) return done('it has no process', { vm: info, endedBy: 'already-stopped' });
    // It is in the record that it was to be stopped, and that goes on by itself.
    if (info.state === 'stopping') return done('its stop was gone on with', await vms.stop(info.name));
    if (info.generation === operation.before?.generation) return notDone(`it is ${info.state}`);
    return unknown(`it is ${info.state} in a later generation`);
  },
  'vm.delete': (operation, vms) => {
    const { before } = operation;
    const info = infoOf(operation, vms);
    const isBroken = vms.broken.some(({ name }) => name === operation.vm);
    if (info === undefined && !isBroken) return done('it is gone', {});
    if (info !== undefined && before !== undefined && info.uuid !== before.uuid)
      return done('another VM has its name by now', {});
    return notDone(`it is there, and is ${info?.state ?? 'broken'}`);
  },
  'vm.reset': (operation, vms, { isAlone }) => {
    if (!isAlone) return unknown(ANOTHER);
    const { events } = vms.events.query({ vm: operation.vm, limit: Number.MAX_SAFE_INTEGER });
    const isTold = events.some(
      ({ type, time, data }) =>
        type === 'vm.reset' && time >= operation.acceptedAt && 'reason' in data && data.reason === RESET_FROM_OUTSIDE,
    );
    const info = infoOf(operation, vms);
    return isTold && info !== undefined ? done('QEMU has told of a reset', info) : unknown('nothing tells of a reset');
  },
  'vm.pause': (operation, vms) => byRunState(operation, vms, 'paused'),
  'vm.resume': (operation, vms) => byRunState(operation, vms, 'running'),
};

/** `more` are the rules of methods that belong to others. */
export function reconcilerOf(vms: Vms, more: Reconcilers = {}): (operation: Operation, about: About) => Promise<Reconciliation> {
  const rules: Readonly<Record<string, Reconciler | undefined>> = { ...VM_RECONCILERS, ...more };
  return async (operation, about) => {
    const rule = Object.hasOwn(rules, operation.method) ? rules[operation.method] : undefined;
    if (rule === undefined) return unknown(`nothing shows whether ${operation.method} took effect`);
    try {
      return await rule(operation, vms, about);
    } catch (error) {
      return unknown(`it could not be looked at: ${toFairleadError(error).message}`);
    }
  };
}

/** How the VM is; undefined where there is none. */
export function lookAt(vms: Vms, vm: string): VmBrief | undefined {
  const info = vmOrNone(vms, vm);
  return info === undefined ? undefined : { uuid: info.uuid, generation: info.generation, state: info.state };
}

/** For what only changes whether the guest runs. */
export async function byRunState(operation: Operation, vms: Vms, wanted: 'paused' | 'running'): Promise<Reconciliation> {
  const info = infoOf(operation, vms);
  if (info === undefined || isAtRest(info)) return unknown(`it is ${info?.state ?? 'gone'}`);
  if (info.generation !== operation.before?.generation) return unknown('it was started anew meanwhile');
  await vms.qmp(info.name, { execute: 'query-status' }, { timeoutMs: ASK_MS });
  // Answered, so that the state is QEMU's own and not what the record said.
  const { state } = vms.get(info.name);
  if (state === wanted) return done(`it is ${state}`, vms.get(info.name));
  return state === 'running' || state === 'paused' ? notDone(`it is ${state}`) : unknown(`it is ${state}`);
}

function infoOf({ vm }: Operation, vms: Vms): VmInfo | undefined {
  return vm === undefined ? undefined : vmOrNone(vms, vm);
}

function vmOrNone(vms: Vms, vm: string): VmInfo | undefined {
  try {
    return vms.get(vm);
  } catch (error) {
    if (toFairleadError(error).code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

function isAtRest({ state }: VmInfo): boolean {
  const rest: readonly VmState[] = REST_STATES;
  return rest.includes(state);
}

function done(reason: string, result: unknown): Reconciliation {
  return { outcome: 'done', reason, result };
}

function notDone(reason: string): Reconciliation {
  return { outcome: 'not-done', reason };
}

function unknown(reason: string): Reconciliation {
  return { outcome: 'unknown', reason };
}
