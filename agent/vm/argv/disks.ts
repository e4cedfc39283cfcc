/**
 * Disks and CD drives. The same descriptions serve the command line and, while the VM runs, `object-add`, `blockdev-add` and `device_add`.
 *
 * A disk is a chain of nodes under a device: `ID-file`, `ID-format`, `ID-throttle`, then `ID`. The throttle is always there, limits or none,
 * so that a running disk can be given some. A CD drive has `ID-file` and `ID-format` while there is a medium in it.
 *
 * A disk that is full stops the guest (`io-error`) instead of corrupting it; another error is the guest's to handle.
 */
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Cdrom, DataDisk, Disk, Throttle } from '../../../shared/protocol/vm-spec-devices.ts';
import { type HostDevices, json, type Option } from './host.ts';
import { slotPlace, smallDevicePlace } from './slots.ts';

/** Moves the guest's disk I/O out of QEMU's main loop. There when the VM starts with a disk. */
const IO_THREAD = 'iothread0';

type Description = Readonly<Record<string, unknown>>;

/** What to make, in this order; unmade in the reverse one. */
export interface DiskParts {
  readonly limits: Description;
  /** Each on the one before. */
  readonly nodes: readonly Description[];
  readonly device: Description;
}

export interface DiskContext {
  readonly machine: VmSpec['machine'];
  readonly blockDevices: HostDevices['blockDevices'];
  readonly ioThread: string | undefined;
}

export function diskOptions(spec: VmSpec, { blockDevices }: HostDevices): Option[] {
  const { disks, machine, boot } = spec;
  const cdroms = disks.filter((disk) => disk.media === 'cdrom');
  const ioThread = cdroms.length === disks.length ? undefined : IO_THREAD;
  const options: Option[] = [];
  if (ioThread !== undefined) options.push(['-object', json({ 'qom-type': 'iothread', id: ioThread })]);
  if (machine === 'virt' && cdroms.length > 0) {
    options.push(['-device', json({ driver: 'virtio-scsi-pci', id: 'scsi0', ...smallDevicePlace('scsi0') })]);
  }
  for (const [index, disk] of disks.entries()) {
    // Firmware boots the disks in the order of the spec.
    const order = boot.kernel === undefined ? { bootindex: index } : {};
    if (disk.media === 'cdrom') {
      for (const node of imageNodes(disk, blockDevices)) options.push(['-blockdev', json(node)]);
      options.push(['-device', json({ ...cdromDevice(disk, machine, cdroms.indexOf(disk)), ...order })]);
    } else {
      const { limits, nodes, device } = diskParts(disk, { machine, blockDevices, ioThread });
      options.push(['-object', json(limits)]);
      for (const node of nodes) options.push(['-blockdev', json(node)]);
      options.push(['-device', json({ ...device, ...order })]);
    }
  }
  return options;
}

export function diskParts(disk: DataDisk, { machine, blockDevices, ioThread }: DiskContext): DiskParts {
  const { id, slot, serial, cache, throttle } = disk;
  const limits = { 'qom-type': 'throttle-group', id: `${id}-limits`, limits: throttleLimits(throttle) };
  const filter = {
    driver: 'throttle',
    'node-name': `${id}-throttle`,
    'throttle-group': `${id}-limits`,
    file: `${id}-format`,
    'read-only': disk.readOnly,
  };
  const device = {
    driver: 'virtio-blk-pci',
    id,
    ...slotPlace(machine, slot),
    drive: `${id}-throttle`,
    ...(ioThread === undefined ? {} : { iothread: ioThread }),
    ...(serial === undefined ? {} : { serial }),
    'write-cache': cache === 'writethrough' ? 'off' : 'on',
    werror: 'enospc',
    rerror: 'report',
  };
  return { limits, nodes: [...imageNodes(disk, blockDevices), filter], device };
}

/** The nodes of the image itself; none for a CD drive without a medium. */
export function imageNodes(disk: Disk, blockDevices: HostDevices['blockDevices']): Description[] {
  const { id, path, format, readOnly } = disk;
  if (path === undefined) return [];
  const common = {
    'read-only': readOnly,
    discard: 'unmap',
    cache: { direct: disk.cache === 'none', 'no-flush': disk.cache === 'unsafe' },
  };
  const driver = blockDevices.includes(path) ? 'host_device' : 'file';
  return [
    { driver, 'node-name': `${id}-file`, filename: path, aio: disk.aio, ...common },
    { driver: format, 'node-name': `${id}-format`, file: `${id}-file`, ...common },
  ];
}

/** The `limits` of a throttle-group, every one given, so that it can be set over others. */
export function throttleLimits(throttle: Throttle | undefined): Description {
  const { bytesPerSecond = 0, burstBytesPerSecond = 0, operationsPerSecond = 0, burstOperationsPerSecond = 0 } = throttle ?? {};
  return {
    'bps-total': bytesPerSecond,
    'bps-total-max': burst(bytesPerSecond, burstBytesPerSecond),
    'iops-total': operationsPerSecond,
    'iops-total-max': burst(operationsPerSecond, burstOperationsPerSecond),
  };
}

/** QEMU refuses a burst that is not above the sustained rate; such a one means the same as none. */
function burst(rate: number, burstRate: number): number {
  return rate > 0 && burstRate > rate ? burstRate : 0;
}

/** On q35 the machine's own AHCI ports, for which every guest has a driver; elsewhere a SCSI controller. */
function cdromDevice({ id, path, serial }: Cdrom, machine: VmSpec['machine'], index: number): Description {
  const place = machine === 'q35' ? { driver: 'ide-cd', bus: `ide.${index}` } : { driver: 'scsi-cd', bus: 'scsi0.0', lun: index };
  const medium = path === undefined ? {} : { drive: `${id}-format` };
  return { ...place, id, ...medium, ...(serial === undefined ? {} : { serial }) };
}
