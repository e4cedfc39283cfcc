/** Networks: a host side `ID-dev` and the guest's NIC `ID`. */
import { createHash } from 'node:crypto';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Network } from '../../../shared/protocol/vm-spec-devices.ts';
import { type HostDevices, json, type Option } from './host.ts';
import { slotPlace } from './slots.ts';

type Description = Readonly<Record<string, unknown>>;

export interface NetworkParts {
  readonly netdev: Description;
  readonly device: Description;
}

export function networkOptions(spec: VmSpec, host: HostDevices): Option[] {
  return spec.networks.flatMap((network): Option[] => {
    const { netdev, device } = networkParts(spec, network, host);
    return [
      ['-netdev', json(netdev)],
      ['-device', json(device)],
    ];
  });
}

export function networkParts(
  { name, machine }: Pick<VmSpec, 'name' | 'machine'>,
  network: Network,
  host: HostDevices,
): NetworkParts {
  const { id, slot } = network;
  const mac = networkMac(name, network);
  // Without its ROM: nothing boots from the network here, and the firmware would spend its time on it.
  const device = { driver: 'virtio-net-pci', id, ...slotPlace(machine, slot), netdev: `${id}-dev`, mac, romfile: '' };
  return { netdev: netdev(network, host), device };
}

function netdev(network: Network, { vhostNet, taps }: HostDevices): Description {
  const id = `${network.id}-dev`;
  if (network.type === 'user') {
    // Forwarded ports listen on loopback only: a guest's port is not opened to the host's network unasked.
    const hostfwd = network.forwards.map(({ protocol, hostPort, guestPort }) => ({
      str: `${protocol}:127.0.0.1:${hostPort}-:${guestPort}`,
    }));
    return { type: 'user', id, ...(hostfwd.length === 0 ? {} : { hostfwd }) };
  }
  const ifname = network.type === 'tap' ? network.tap : taps[network.id];
  return { type: 'tap', id, ifname, script: 'no', downscript: 'no', ...(vhostNet ? { vhost: true } : {}) };
}

export function networkMac(vm: string, { id, mac }: Network): string {
  return mac ?? macAddress(vm, id);
}

/** A unicast, locally administered address that stays the same for this VM's NIC whenever and wherever it is started. */
export function macAddress(vm: string, id: string): string {
  const bytes = [...createHash('sha256').update(`${vm}/${id}`).digest().subarray(0, 6)];
  const [first = 0, ...rest] = bytes;
  return [(first & 0xfc) | 0x02, ...rest].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
