/**
 * Makes the record agree with QEMU about the devices that come and go.
 *
 * An attach is recorded before QEMU hears of it, a detach after QEMU has told of its end. So there is one way in which the two can come
 * apart, whenever the agent dies or an answer is lost: the record has a device that QEMU does not have. QEMU is right. What stands behind
 * the device is taken away, and then the device is taken from the record.
 *
 * Done at the adoption of a VM, before each operation on its devices, and when a guest lets go of a device that nobody waits for any more.
 */

import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES } from '../../../shared/protocol/vm-spec-machines.ts';
import { failpoint } from '../../failpoint.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { type Peripherals, readPeripherals } from './peripherals.ts';
import { DISKS, NETWORKS, type Placed, type Pluggable } from './pluggable.ts';

export const VSOCK_ID = 'vsock0';
export const VSOCK_CHARDEV = 'vsock0-socket';

export async function reconcileDevices(vm: LiveVm, limits: CommandLimits): Promise<Peripherals> {
  if (!MACHINE_FEATURES[vm.spec.machine].hotplug) return { ids: new Set(), ports: [] };
  const peripherals = await readPeripherals(vm, limits);
  await dropGone(vm, DISKS, peripherals, limits);
  await dropGone(vm, NETWORKS, peripherals, limits);
  await dropGoneVsock(vm, peripherals, limits);
  return peripherals;
}

async function dropGone<Device extends Placed>(
  vm: LiveVm,
  kind: Pluggable<Device>,
  { ids, ports }: Peripherals,
  limits: CommandLimits,
): Promise<void> {
  for (const device of kind.of(vm.spec)) {
    const { id, slot } = device;
    // A device whose port is not there was made by an agent that knew no ports.
    if (ids.has(id) || !ports.includes(slot)) continue;
    await failpoint('detach.device-gone');
    await kind.removeBackend(vm, device, limits);
    await failpoint('detach.backend-removed');
    await vm.changeSpec((spec) => kind.remove(spec, id));
    await failpoint('detach.recorded');
  }
}

async function dropGoneVsock(vm: LiveVm, { ids, ports }: Peripherals, limits: CommandLimits): Promise<void> {
  const { vsock } = vm.spec;
  if (vsock === undefined || ids.has(VSOCK_ID) || !ports.includes(vsock.slot)) return;
  await failpoint('detach.device-gone');
  const chardevs = await vm.execute('query-chardev', {}, limits);
  if (chardevs.some(({ label }) => label === VSOCK_CHARDEV)) await vm.execute('chardev-remove', { id: VSOCK_CHARDEV }, limits);
  await vm.vsock.use(undefined);
  await failpoint('detach.backend-removed');
  await vm.changeSpec(withoutVsock);
  await failpoint('detach.recorded');
}

export function withoutVsock(spec: VmSpec): VmSpec {
  const { vsock: _gone, ...rest } = spec;
  return rest;
}
