/** What every change of devices asks first: whether the machine can, where there is room, and in what time. */
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES } from '../../../shared/protocol/vm-spec-machines.ts';
import type { Deadline } from '../deadline.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import type { Peripherals } from './peripherals.ts';

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
