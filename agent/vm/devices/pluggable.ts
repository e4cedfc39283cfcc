/**
 * The two kinds of device that come and go by their id, each with what attaching and detaching need to know of it. The vsock is one of a
 * kind (vsock.ts), and a CD drive stays while its medium changes (medium.ts).
 */
import { readFile } from 'node:fs/promises';
import { isFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { DataDisk, Network } from '../../../shared/protocol/vm-spec-devices.ts';
import { diskParts } from '../argv/disks.ts';
import { networkMac, networkParts } from '../argv/networks.ts';
import { blockDevicesAmong, findHostDevices } from '../host/host-devices.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { makeTap, removeTap, requireTap } from '../network/tap.ts';
import type { Description, Part, UndoList } from './plug.ts';
import { releaseNode } from './release-node.ts';

export interface Placed {
  readonly id: string;
  readonly slot: number;
}

export interface PlugParts {
  /** What stands behind the device, in the order in which it is made. */
  readonly backend: readonly Part[];
  readonly device: Description;
}

export interface Pluggable<Device extends Placed> {
  /** For messages. */
  readonly noun: string;
  of(spec: VmSpec): readonly Device[];
  add(spec: VmSpec, device: Device): VmSpec;
  remove(spec: VmSpec, id: string): VmSpec;
  /** What of it is made on the host goes into `undo`. */
  parts(vm: LiveVm, device: Device, context: { readonly limits: CommandLimits; readonly undo: UndoList }): Promise<PlugParts>;
  /** Takes away what stood behind a device that is gone, as far as it is there. */
  removeBackend(vm: LiveVm, device: Device, limits: CommandLimits): Promise<void>;
}

const IO_THREAD = 'iothread0';

export const DISKS: Pluggable<DataDisk> = {
  noun: 'disk',
  of: ({ disks }) => disks.filter((disk) => disk.media === 'disk'),
  add: (spec, disk) => ({ ...spec, disks: [...spec.disks, disk] }),
  remove: (spec, id) => ({ ...spec, disks: spec.disks.filter((disk) => disk.id !== id) }),
  async parts(vm, disk, { limits }) {
    const [hasIoThread, blockDevices] = await Promise.all([hasObject(vm, IO_THREAD, limits), blockDevicesAmong([disk.path])]);
    const ioThread = hasIoThread ? IO_THREAD : undefined;
    const { limits: group, nodes, device } = diskParts(disk, { machine: vm.spec.machine, blockDevices, ioThread });
    const chain = nodes.map((description): Part => ({ command: 'blockdev-add', description }));
    return { backend: [{ command: 'object-add', description: group }, ...chain], device };
  },
  async removeBackend(vm, { id }, limits) {
    const nodes = await vm.execute('query-named-block-nodes', { flat: true }, limits);
    for (const name of [`${id}-throttle`, `${id}-format`, `${id}-file`]) {
      if (nodes.some((node) => node['node-name'] === name)) await releaseNode(vm, name, limits);
    }
    if (await hasObject(vm, `${id}-limits`, limits)) await vm.execute('object-del', { id: `${id}-limits` }, limits);
  },
};

export const NETWORKS: Pluggable<Network> = {
  noun: 'network',
  of: ({ networks }) => networks,
  add: (spec, network) => ({ ...spec, networks: [...spec.networks, network] }),
  remove: (spec, id) => ({ ...spec, networks: spec.networks.filter((network) => network.id !== id) }),
  async parts(vm, network, { limits, undo }) {
    const { spec, paths } = vm;
    const user = await userOf(vm);
    if (network.type === 'tap') await requireTap(ownerOf(vm), network);
    if (network.type === 'bridge') {
      undo.push(() => removeTap(ownerOf(vm), network.slot));
      const mac = networkMac(spec.name, network);
      await makeTap(ownerOf(vm), network, { mac, user, signal: limits.signal });
    }
    const { netdev, device } = networkParts(spec, network, await findHostDevices(spec, paths, user));
    return { backend: [{ command: 'netdev_add', description: netdev }], device };
  },
  async removeBackend(vm, network, limits) {
    try {
      await vm.execute('netdev_del', { id: `${network.id}-dev` }, limits);
    } catch (error) {
      // There is no command that lists them.
      if (!isFairleadError(error) || error.details?.['class'] !== 'DeviceNotFound') throw error;
    }
    if (network.type === 'bridge') await removeTap(ownerOf(vm), network.slot);
  },
};

function ownerOf({ name, paths }: LiveVm): { readonly vm: string; readonly dir: string } {
  return { vm: name, dir: paths.dir };
}

/** Whom this QEMU runs as, who must be able to open what is made for it; undefined where that is the agent itself. */
async function userOf({ process: { pid } }: LiveVm): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const [uid, gid] = ['Uid', 'Gid'].map((id) => Number(new RegExp(`^${id}:\\s+\\d+\\s+(\\d+)`, 'm').exec(status)?.[1]));
  if (uid === undefined || gid === undefined || uid === process.geteuid?.()) return undefined;
  return { uid, gid };
}

async function hasObject(vm: LiveVm, id: string, limits: CommandLimits): Promise<boolean> {
  return (await vm.execute('qom-list', { path: '/objects' }, limits)).some(({ name }) => name === id);
}
