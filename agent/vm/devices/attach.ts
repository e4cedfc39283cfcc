/**
 * Attaching a device to a running VM:
 *
 *     agree (reconcile.ts) → record it → backend → device ──▶ the guest finds it by itself; answer
 *                            └── refused anywhere: all of it is taken back in reverse
 *
 * All of it is among the commands of the VM, in turn. A repeat finds the device and changes nothing.
 */
import { isDeepStrictEqual } from 'node:util';
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { failpoint } from '../../failpoint.ts';
import type { Deadline } from '../deadline.ts';
import type { LiveVm } from '../live-vm.ts';
import { checkFiles, checkSpec } from '../spec-check.ts';
import type { Peripherals } from './peripherals.ts';
import { addDevice, addPart, refusalOf, UndoList } from './plug.ts';
import type { Placed, Pluggable } from './pluggable.ts';
import { freeSlot, requireHotplug, uncancelled } from './ports.ts';
import { reconcileDevices } from './reconcile.ts';

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
  const attached = undo.guard(async () => {
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
  await attached.catch((error: unknown) => {
    throw refusalOf(error, `${kind.noun} ${device.id} could not be attached to VM ${vm.name}`);
  });
  await failpoint('attach.device-added');
  return true;
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
