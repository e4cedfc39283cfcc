/** The devices of a command line, all in JSON but the chardev of vhost-user. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { type ArgvVsock, json, type Option, optionValue, VHOST_FD } from './host.ts';

type Disk = VmSpec['disks'][number];
type Throttle = NonNullable<Disk['throttle']>;
type Network = VmSpec['networks'][number];

/**
 * One disk: file, then format, then (where throttled) a filter, then the device on top. A disk that is full stops the guest
 * (`io-error`) instead of corrupting it; a read error is the guest's to handle.
 */
export function diskOptions(disk: Disk, index: number): Option[] {
  const id = `disk${index}`;
  const common = { 'read-only': disk.readOnly, discard: 'unmap' };
  const options: Option[] = [
    ['-blockdev', json({ driver: 'file', 'node-name': `${id}-file`, filename: disk.path, aio: 'threads', ...common })],
    ['-blockdev', json({ driver: disk.format, 'node-name': `${id}-format`, file: `${id}-file`, ...common })],
  ];
  // A rate of 0 is no limit, as in QEMU.
  const throttle = disk.throttle?.bytesPerSecond === 0 ? undefined : disk.throttle;
  if (throttle !== undefined) options.push(...throttleOptions(id, throttle));
  const drive = throttle === undefined ? `${id}-format` : `${id}-throttle`;
  const serial = disk.serial === undefined ? {} : { serial: disk.serial };
  options.push(['-device', json({ driver: 'virtio-blk-pci', id, drive, ...serial, werror: 'enospc', rerror: 'report' })]);
  return options;
}

function throttleOptions(id: string, { bytesPerSecond, burstBytesPerSecond = 0 }: Throttle): Option[] {
  // QEMU refuses a burst that is not above the sustained rate; such a one means the same as none.
  const burst = burstBytesPerSecond > bytesPerSecond ? { 'bps-total-max': burstBytesPerSecond } : {};
  const group = `${id}-limits`;
  return [
    ['-object', json({ 'qom-type': 'throttle-group', id: group, limits: { 'bps-total': bytesPerSecond, ...burst } })],
    ['-blockdev', json({ driver: 'throttle', 'node-name': `${id}-throttle`, 'throttle-group': group, file: `${id}-format` })],
  ];
}

/** Without its ROM: nothing boots from the network here, and the firmware would spend its time on it. */
export function networkOptions(vm: string, network: Network, index: number): Option[] {
  const id = `net${index}`;
  const mac = network.mac ?? macAddress(vm, index);
  return [
    ['-netdev', json(netdev(network, id))],
    ['-device', json({ driver: 'virtio-net-pci', id: `nic${index}`, netdev: id, mac, romfile: '' })],
  ];
}

function netdev(network: Network, id: string): object {
  if (network.type === 'tap') return { type: 'tap', id, ifname: network.tap, script: 'no', downscript: 'no' };
  // Forwarded ports listen on loopback only: a guest's port is not opened to the host's network unasked.
  const hostfwd = network.forwards.map(({ protocol, hostPort, guestPort }) => ({
    str: `${protocol}:127.0.0.1:${hostPort}-:${guestPort}`,
  }));
  return { type: 'user', id, ...(hostfwd.length === 0 ? {} : { hostfwd }) };
}

/** A unicast, locally administered address that stays the same for this VM's NIC whenever and wherever it is started. */
export function macAddress(vm: string, index: number): string {
  const bytes = [...createHash('sha256').update(`${vm}/${index}`).digest().subarray(0, 6)];
  const [first = 0, ...rest] = bytes;
  return [(first & 0xfc) | 0x02, ...rest].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

export function vsockOptions(vsock: ArgvVsock | undefined): Option[] {
  if (vsock === undefined) return [];
  if (vsock.backend.kind === 'vhost-vsock') {
    const device = { driver: 'vhost-vsock-pci', id: 'vsock0', 'guest-cid': vsock.cid, vhostfd: String(VHOST_FD) };
    return [['-device', json(device)]];
  }
  return [
    ['-chardev', `socket,id=vsock0-socket,path=${optionValue(vsock.backend.socketPath)}`],
    ['-device', json({ driver: 'vhost-user-vsock-pci', id: 'vsock0', chardev: 'vsock0-socket' })],
  ];
}

/** A mediated device by its sysfs path, a PCI device by its sysfs path, or a PCI address as it stands. */
export function pciOption(device: string, index: number): Option {
  const where = device.startsWith('/sys/bus/mdev/devices/')
    ? { sysfsdev: device }
    : { host: device.startsWith('/sys/bus/pci/devices/') ? basename(device) : device };
  return ['-device', json({ driver: 'vfio-pci', id: `pci${index}`, ...where })];
}

export function smallDeviceOptions({ devices, machine }: VmSpec): Option[] {
  const options: Option[] = [];
  if (devices.rng) {
    options.push(['-object', json({ 'qom-type': 'rng-builtin', id: 'rng0-source' })]);
    options.push(['-device', json({ driver: 'virtio-rng-pci', id: 'rng0', rng: 'rng0-source' })]);
  }
  if (devices.balloon) {
    const device = { driver: 'virtio-balloon-pci', id: 'balloon0', 'deflate-on-oom': true, 'free-page-reporting': true };
    options.push(['-device', json(device)]);
  }
  // microvm describes no such device to its guest.
  if (devices.pvpanic && machine !== 'microvm') options.push(['-device', json({ driver: 'pvpanic-pci', id: 'pvpanic0' })]);
  return options;
}
