/**
 * Where devices sit on the PCI bus. Every address is fixed by the device's kind or by its slot in the spec, and none by the order of the
 * command line, so that a guest finds each device where it was, whatever came or went beside it.
 *
 *     pcie.0   00        the machine's own bridge
 *              01 to 07  the small devices, each its own address
 *              08 to 17  the ports slot0 to slot127, eight to an address: disks, NICs and vsock, and those that are still free
 *              18, 19    the ports of devices that are passed through
 *              1f        the machine's own (q35: LPC, AHCI)
 *
 * A device behind a port can be attached and detached while the VM runs. A machine that cannot do this (microvm) has no ports: there, slot N
 * is the address 08 + N.
 */
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES, type MachineType } from '../../../shared/protocol/vm-spec-machines.ts';
import { json, type Option } from './host.ts';

const ROOT_BUS = 'pcie.0';
const FIRST_SLOT = 0x08;
const FIRST_PASSTHROUGH = 0x18;
const PORTS_AN_ADDRESS = 8;
const SMALL_DEVICES = { rng0: 0x01, balloon0: 0x02, vmem0: 0x03, pvpanic0: 0x04, serial0: 0x05, scsi0: 0x06 } as const;

/** Slots of a machine without ports: the last address belongs to the machine. */
export const SLOTS_WITHOUT_PORTS = 0x1f - FIRST_SLOT;

export interface Place {
  readonly bus: string;
  readonly addr?: string;
}

export function smallDevicePlace(device: keyof typeof SMALL_DEVICES): Place {
  return { bus: ROOT_BUS, addr: address(SMALL_DEVICES[device]) };
}

/** The bus of a device in that slot, for `-device` and for `device_add` alike. */
export function slotPlace(machine: MachineType, slot: number): Place {
  return MACHINE_FEATURES[machine].hotplug ? { bus: `slot${slot}` } : { bus: ROOT_BUS, addr: address(FIRST_SLOT + slot) };
}

export function passthroughPlace(index: number): Place {
  return { bus: `pci${index}-port` };
}

/** The slots that devices of the spec are in, in no order. */
export function usedSlots({ disks, networks, vsock }: VmSpec): number[] {
  const disksInSlots = disks.filter(({ media }) => media === 'disk');
  return [vsock, ...networks, ...disksInSlots].flatMap((device) =>
    device !== undefined && 'slot' in device ? [device.slot] : [],
  );
}

/** The number of ports that the machine is started with: `hotplugSlots` of them, or more, are free. */
export function portCount(spec: VmSpec): number {
  if (!MACHINE_FEATURES[spec.machine].hotplug) return 0;
  const used = new Set(usedSlots(spec));
  let count = 0;
  for (let free = 0; free < spec.devices.hotplugSlots || count <= Math.max(-1, ...used); count++) if (!used.has(count)) free++;
  return count;
}

/**
 * The ports that a running machine was started with, by its command line: its spec may have changed since. A slot below that number which
 * no device is in (`usedSlots`) is free.
 */
export function portsOf(argv: readonly string[]): number {
  return argv.filter((argument) => argument.startsWith(`{"driver":"${PORT_DRIVER}","id":"slot`)).length;
}

export function portOptions(spec: VmSpec, count = portCount(spec)): Option[] {
  const ports = Array.from({ length: count }, (_, slot) => portOption(`slot${slot}`, FIRST_SLOT, slot, slot + 1));
  const firstChassis = 0x80;
  const passthrough = spec.pciDevices.map((_, index) =>
    portOption(`pci${index}-port`, FIRST_PASSTHROUGH, index, firstChassis + index + 1),
  );
  return [...ports, ...passthrough];
}

const PORT_DRIVER = 'pcie-root-port';

function portOption(id: string, first: number, index: number, chassis: number): Option {
  const offset = Math.floor(index / PORTS_AN_ADDRESS);
  const fn = index % PORTS_AN_ADDRESS;
  // Nothing behind a port is of the old kind that needs a window of I/O ports, of which there are but few.
  const port = { driver: PORT_DRIVER, id, bus: ROOT_BUS, addr: address(first + offset, fn), chassis, 'io-reserve': 0 };
  return ['-device', json(fn === 0 ? { ...port, multifunction: true } : port)];
}

function address(slot: number, fn = 0): string {
  return `${slot.toString(16).padStart(2, '0')}.${fn}`;
}
