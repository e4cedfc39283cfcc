/**
 * Attaching a device to a running VM, and detaching it:
 *
 *     attach   agree (reconcile.ts) → record it → backend → device ──▶ the guest finds it by itself; answer
 *                                     └── refused anywhere: all of it is taken back in reverse
 *     detach   agree → ask the guest ──────── the guest lets go ──▶ agree again: backend and record ──▶ answer
 *                                      ├── it refuses, or says nothing in time ──▶ GUEST_UNRESPONSIVE, the device stays
 *                                      └── it lets go later, with nobody waiting ──▶ the same, by device-operations.ts
 *
 * Both are among the commands of the VM, in turn; only the wait for the guest is beside them, so that a guest that never answers holds up
 * nobody. A repeat finds what it wants and says `changed: false`.
 */
import { isDeepStrictEqual } from 'node:util';
import { FairleadError, isFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES } from '../../../shared/protocol/vm-spec-machines.ts';
import { failpoint } from '../../failpoint.ts';
import type { QmpListener } from '../../qmp/events.ts';
import type { Deadline } from '../deadline.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { checkFiles, checkSpec } from '../spec-check.ts';
import type { Peripherals } from './peripherals.ts';
import { addDevice, addPart, UndoList } from './plug.ts';
import type { Placed, Pluggable } from './pluggable.ts';
import { reconcileDevices } from './reconcile.ts';

/** Kept of the caller's time for the answer that says what the guest did not do. */
const ANSWER_MS = 500;

/** What the host's owner allows; asked with the spec as it would be. */
export type CheckPolicy = (spec: VmSpec) => Promise<void>;

/** A device as it is asked for: the slot may be left to the agent. */
export type Asked<Device> = Omit<Device, 'slot'> & { readonly slot?: number | undefined };

/** @throws FairleadError CONFLICT, LIMIT_EXCEEDED, UNSUPPORTED, INVALID_PARAMS, NOT_FOUND, PERMISSION_DENIED, QMP_FAILED. */
export async function attach<Device extends Placed>(
  vm: LiveVm,
  kind: Pluggable<Device>,
  asked: Asked<Device> & { readonly id: string },
  { deadline, checkPolicy }: { readonly deadline: Deadline; readonly checkPolicy: CheckPolicy },
): Promise<boolean> {
  await failpoint('attach.begun');
  requireHotplug(vm, kind.noun);
  const limits = uncancelled(vm, deadline);
  const peripherals = await reconcileDevices(vm, limits);
  if (isAttached(vm, kind, asked, peripherals)) return false;

  const slot = freeSlot(vm.spec, asked.slot, peripherals, `${kind.noun} ${asked.id}`);
  // SAFETY: a device as asked for lacks its slot alone.
  const device = { ...asked, slot } as unknown as Device;
  const spec = kind.add(vm.spec, device);
  checkSpec(spec);
  await checkPolicy(spec);
  await checkFiles(spec);
  deadline.signal.throwIfAborted();

  const undo = new UndoList(vm);
  await undo.guard(async () => {
    undo.push(() => vm.changeSpec((current) => kind.remove(current, device.id)));
    await vm.changeSpec((current) => kind.add(current, device));
    await failpoint('attach.recorded');
    const { backend, device: description } = await kind.parts(vm, device, { limits, undo });
    for (const part of backend) await addPart(vm, part, limits, undo);
    await failpoint('attach.backend-added');
    // Files are open from here on and QEMU's lock keeps them as they are: what they name is looked at once more.
    await checkPolicy(spec);
    await addDevice(vm, description, limits);
  });
  await failpoint('attach.device-added');
  return true;
}

/** Asks the guest to let go of a device; false when it has none of that id. `letGo` waits for it. */
export async function askToDetach<Device extends Placed>(
  vm: LiveVm,
  kind: Pluggable<Device>,
  id: string,
  deadline: Deadline,
): Promise<boolean> {
  await failpoint('detach.begun');
  requireHotplug(vm, kind.noun);
  const limits = uncancelled(vm, deadline);
  const { ports } = await reconcileDevices(vm, limits);
  const device = kind.of(vm.spec).find((candidate) => candidate.id === id);
  if (device === undefined) return false;
  if (!ports.includes(device.slot)) {
    throw new FairleadError('UNSUPPORTED', `${kind.noun} ${id} of VM ${vm.name} has no port of its own: stop and start the VM`);
  }
  deadline.signal.throwIfAborted();
  await deviceDel(vm, id, limits);
  await failpoint('detach.asked');
  return true;
}

export async function deviceDel(vm: LiveVm, id: string, limits: CommandLimits): Promise<void> {
  try {
    await vm.execute('device_del', { id }, limits);
  } catch (error) {
    // It went meanwhile; its event has been told.
    if (isFairleadError(error) && error.details?.['class'] === 'DeviceNotFound') return;
    throw error;
  }
}

/** What QEMU tells of the end of a device, or of a guest that will not have it; made before the guest is asked. */
export function listenForLeave(vm: LiveVm, id: string): QmpListener {
  return vm.listen({
    names: ['DEVICE_DELETED', 'DEVICE_UNPLUG_GUEST_ERROR'],
    // Children of the device are told of as well, without an id.
    where: ({ data }) => data['device'] === id,
  });
}

/** @throws FairleadError GUEST_UNRESPONSIVE; the device stays then, and may still go when the guest gets to it. */
export async function letGo(vm: LiveVm, what: string, events: QmpListener, deadline: Deadline): Promise<void> {
  const timeoutMs = Number.isFinite(deadline.remainingMs) ? Math.max(0, deadline.remainingMs - ANSWER_MS) : undefined;
  const signal = AbortSignal.any([deadline.signal, vm.signal]);
  let event: Awaited<ReturnType<QmpListener['take']>>;
  try {
    event = await events.take({ signal, timeoutMs });
  } catch (error) {
    signal.throwIfAborted();
    if (!isFairleadError(error) || error.code !== 'TIMEOUT') throw error;
    throw unresponsive(
      vm,
      what,
      `has not let go of ${what} within ${Math.round(timeoutMs ?? 0)} ms: it may be booting, or not know PCI hotplug`,
    );
  }
  if (event.name === 'DEVICE_UNPLUG_GUEST_ERROR') throw unresponsive(vm, what, `refuses to let go of ${what}: it may be in use`);
}

/**
 * The limits of commands that belong together: a caller that gives up half-way does not leave half of them done. Only the end of the
 * deadline, or of QEMU, does.
 */
export function uncancelled({ signal }: LiveVm, deadline: Deadline): CommandLimits {
  return {
    signal,
    get remainingMs() {
      return deadline.remainingMs;
    },
  };
}

export function requireHotplug({ name, spec }: LiveVm, noun: string): void {
  if (MACHINE_FEATURES[spec.machine].hotplug) return;
  throw new FairleadError(
    'UNSUPPORTED',
    `a ${noun} cannot come or go while VM ${name} runs: ${spec.machine} has no ports for that; change the spec of the stopped VM, or use q35`,
  );
}

/** The slot that was asked for if it is free, else the lowest free one. Which are taken, the record knows: cold devices are in it too. */
export function freeSlot(spec: VmSpec, asked: number | undefined, { ports }: Peripherals, what: string): number {
  const devices = [...spec.networks, ...spec.disks, ...(spec.vsock === undefined ? [] : [{ id: 'vsock', ...spec.vsock }])];
  const bySlot = new Map(devices.flatMap((device) => ('slot' in device ? [[device.slot, device.id] as const] : [])));
  const free = ports.filter((port) => !bySlot.has(port));
  if (asked !== undefined) {
    if (free.includes(asked)) return asked;
    const holder = bySlot.get(asked);
    const why = holder === undefined ? `it was started with ${ports.length} ports` : `${holder} has it`;
    throw new FairleadError('CONFLICT', `${what} cannot have slot ${asked} of VM ${spec.name}: ${why}`);
  }
  const [slot] = free;
  if (slot !== undefined) return slot;
  throw new FairleadError(
    'LIMIT_EXCEEDED',
    `VM ${spec.name} has no free port for ${what}: all ${ports.length} are taken; detach something, or start it with more devices.hotplugSlots`,
    { details: { vm: spec.name, taken: [...bySlot.values()] } },
  );
}

function isAttached<Device extends Placed>(
  { name, spec }: LiveVm,
  kind: Pluggable<Device>,
  asked: Asked<Device> & { readonly id: string },
  { ids }: Peripherals,
): boolean {
  const { id } = asked;
  const same = kind.of(spec).find((device) => device.id === id);
  if (same === undefined) {
    const isTaken = ids.has(id) || spec.disks.some((disk) => disk.id === id) || spec.networks.some((nic) => nic.id === id);
    if (!isTaken) return false;
    throw new FairleadError('CONFLICT', `VM ${name} has another device ${id} already`, { details: { vm: name, id } });
  }
  if (isDeepStrictEqual(same, { ...asked, slot: asked.slot ?? same.slot })) return true;
  const message = `VM ${name} has a ${kind.noun} ${id} that differs from this one: detach it first, or take another id`;
  throw new FairleadError('CONFLICT', message, { details: { vm: name, id } });
}

function unresponsive(vm: LiveVm, what: string, why: string): FairleadError {
  const state = vm.state === 'running' ? '' : ` (the VM is ${vm.state})`;
  return new FairleadError(
    'GUEST_UNRESPONSIVE',
    `the guest of VM ${vm.name} ${why}${state}; it stays attached: try again later, or stop the VM`,
    { details: { vm: vm.name, device: what } },
  );
}
