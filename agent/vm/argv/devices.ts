/** The other devices, all in JSON but the chardevs, which know no JSON. */
import { basename } from 'node:path';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { type ArgvPaths, type ArgvVsock, json, type Option, optionValue, VHOST_FD } from './host.ts';
import { passthroughPlace, slotPlace, smallDevicePlace } from './slots.ts';

export function vsockOptions({ vsock: wanted, machine }: VmSpec, vsock: ArgvVsock | undefined): Option[] {
  if (vsock === undefined || wanted === undefined) return [];
  const place = slotPlace(machine, wanted.slot);
  if (vsock.backend.kind === 'vhost-vsock') {
    const device = { driver: 'vhost-vsock-pci', id: 'vsock0', ...place, 'guest-cid': vsock.cid, vhostfd: String(VHOST_FD) };
    return [['-device', json(device)]];
  }
  return [
    ['-chardev', `socket,id=vsock0-socket,path=${optionValue(vsock.backend.socketPath)}`],
    ['-device', json({ driver: 'vhost-user-vsock-pci', id: 'vsock0', ...place, chardev: 'vsock0-socket' })],
  ];
}

/** A mediated device by its sysfs path, a PCI device by its sysfs path, or a PCI address as it stands. */
export function pciOption(device: string, index: number): Option {
  const where = device.startsWith('/sys/bus/mdev/devices/')
    ? { sysfsdev: device }
    : { host: device.startsWith('/sys/bus/pci/devices/') ? basename(device) : device };
  return ['-device', json({ driver: 'vfio-pci', id: `pci${index}`, ...passthroughPlace(index), ...where })];
}

/** The port that qemu-ga opens in the guest, by the name that it looks for. */
export function guestAgentOptions({ guestAgent }: VmSpec, { guestAgentSocket }: ArgvPaths): Option[] {
  if (guestAgent?.via !== 'virtio-serial') return [];
  const port = { driver: 'virtserialport', id: 'agent0', bus: 'serial0.0', nr: 1, chardev: 'agent0-socket' };
  return [
    ['-chardev', `socket,id=agent0-socket,path=${optionValue(guestAgentSocket)},server=on,wait=off`],
    ['-device', json({ driver: 'virtio-serial-pci', id: 'serial0', ...smallDevicePlace('serial0') })],
    ['-device', json({ ...port, name: 'org.qemu.guest_agent.0' })],
  ];
}

export function smallDeviceOptions({ devices }: VmSpec): Option[] {
  const options: Option[] = [];
  if (devices.rng) {
    options.push(['-object', json({ 'qom-type': 'rng-builtin', id: 'rng0-source' })]);
    options.push(['-device', json({ driver: 'virtio-rng-pci', id: 'rng0', ...smallDevicePlace('rng0'), rng: 'rng0-source' })]);
  }
  if (devices.balloon) {
    const features = { 'deflate-on-oom': true, 'free-page-reporting': true };
    options.push([
      '-device',
      json({ driver: 'virtio-balloon-pci', id: 'balloon0', ...smallDevicePlace('balloon0'), ...features }),
    ]);
  }
  if (devices.pvpanic) {
    options.push(['-device', json({ driver: 'pvpanic-pci', id: 'pvpanic0', ...smallDevicePlace('pvpanic0') })]);
  }
  // A new one at each start: what runs now is not what ran before.
  if (devices.vmgenid) options.push(['-device', json({ driver: 'vmgenid', id: 'vmgenid0', guid: 'auto' })]);
  return options;
}
