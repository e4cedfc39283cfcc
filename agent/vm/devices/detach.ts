/**
 * Detaching a device from a running VM:
 *
 *     agree (reconcile.ts) → ask the guest ──── the guest lets go ──▶ agree again: backend and record ──▶ answer
 *                                          ├── it refuses, or says nothing in time ──▶ GUEST_UNRESPONSIVE, the device stays
 *                                          └── it lets go later, with nobody waiting ──▶ the same, by device-operations.ts
 *
 * Asking and agreeing are among the commands of the VM, in turn; the wait for the guest is beside them, so that a guest that never
 * answers holds up nobody. A repeat asks the guest again.
 */
import { FairleadError, isFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { failpoint } from '../../failpoint.ts';
import type { QmpListener } from '../../qmp/events.ts';
import type { Deadline } from '../deadline.ts';
import type { LiveVm } from '../live-vm.ts';
import { requireNoPull } from '../snapshot/pull-job.ts';
import type { Placed, Pluggable } from './pluggable.ts';
import { requireHotplug, uncancelled } from './ports.ts';
import { reconcileDevices } from './reconcile.ts';

/** Kept of the caller's time for the answer that says what the guest did not do. */
const ANSWER_MS = 500;

/** A device that is to go. */
export interface Leaving {
  /** For messages, as in "disk data". */
  readonly what: string;
  readonly id: string;
  /** Undefined where the spec has no such device. */
  slotIn(spec: VmSpec): number | undefined;
  /** Done just before the guest is asked. */
  prepare?(vm: LiveVm): Promise<void>;
}

export function leavingOf<Device extends Placed>(kind: Pluggable<Device>, id: string): Leaving {
  const slotIn = (spec: VmSpec): number | undefined => kind.of(spec).find((device) => device.id === id)?.slot;
  return { what: `${kind.noun} ${id}`, id, slotIn };
}

/** Asks the guest to let go of a device; false when it has none. `answerOf` waits for it. */
export async function askToDetach(vm: LiveVm, leaving: Leaving, deadline: Deadline): Promise<boolean> {
  const { what, id } = leaving;
  await failpoint('detach.begun');
  requireHotplug(vm, what);
  const limits = uncancelled(vm, deadline);
  const { ports } = await reconcileDevices(vm, limits);
  const slot = leaving.slotIn(vm.spec);
  if (slot === undefined) return false;
  if (!ports.includes(slot)) {
    throw new FairleadError('UNSUPPORTED', `${what} of VM ${vm.name} has no port of its own: stop and start the VM`);
  }
  await requireNoPull(vm, limits, id);
  await leaving.prepare?.(vm);
  deadline.signal.throwIfAborted();
  try {
    await vm.execute('device_del', { id }, limits);
  } catch (error) {
    // It went meanwhile, and that has been told.
    if (!isFairleadError(error) || error.details?.['class'] !== 'DeviceNotFound') throw error;
  }
  await failpoint('detach.asked');
  return true;
}

/** What QEMU tells of the end of a device, or of a guest that will not have it; made before the guest is asked. */
export function listenForLeave(vm: LiveVm, id: string): QmpListener {
  return vm.listen({
    names: ['DEVICE_DELETED', 'DEVICE_UNPLUG_GUEST_ERROR'],
    // Children of the device are told of as well, without an id.
    where: ({ data }) => data['device'] === id,
  });
}

/**
 * What the guest does: it lets go, or refuses to.
 * @throws FairleadError GUEST_UNRESPONSIVE when it says nothing in time; the device stays then, and may still go when the guest gets to it.
 */
export async function answerOf(vm: LiveVm, what: string, events: QmpListener, deadline: Deadline): Promise<'gone' | 'refused'> {
  const timeoutMs = Number.isFinite(deadline.remainingMs) ? Math.max(0, deadline.remainingMs - ANSWER_MS) : undefined;
  const signal = AbortSignal.any([deadline.signal, vm.signal]);
  try {
    const { name } = await events.take({ signal, timeoutMs });
    return name === 'DEVICE_DELETED' ? 'gone' : 'refused';
  } catch (error) {
    signal.throwIfAborted();
    if (!isFairleadError(error) || error.code !== 'TIMEOUT') throw error;
    const within = `within ${Math.round(timeoutMs ?? 0)} ms`;
    throw staysAttached(vm, what, `has not let go of ${what} ${within}: it may be booting, or not know PCI hotplug`);
  }
}

export function refused(vm: LiveVm, what: string): FairleadError {
  return staysAttached(vm, what, `refuses to let go of ${what}: it may be in use`);
}

function staysAttached(vm: LiveVm, what: string, why: string): FairleadError {
  const state = vm.state === 'running' ? '' : ` (the VM is ${vm.state})`;
  return new FairleadError(
    'GUEST_UNRESPONSIVE',
    `the guest of VM ${vm.name} ${why}${state}; it stays attached: try again later, or stop the VM`,
    { details: { vm: vm.name, device: what } },
  );
}
