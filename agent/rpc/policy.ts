/**
 * What the host's owner lets the hub do here (agent/config.ts has the settings). Every refusal is PERMISSION_DENIED, names the thing and
 * the setting, and happens before anything else does.
 */
import { dirname, join } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import { imageOf } from '../../shared/protocol/image-ref.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { Disk, Network } from '../../shared/protocol/vm-spec-devices.ts';
import { overlaysOf } from '../images/overlays.ts';
import { filesOfQcow2 } from '../vm/qcow2-files.ts';
import { checkFile, checkImagesBelow, checkMayWrite, denied, type FileRoots } from './policy-files.ts';
import { checkRemoval, REPLACED_COMMANDS } from './policy-qmp.ts';

export interface PolicyConfig {
  readonly methods: readonly string[];
  readonly qmpCommands: readonly string[];
  readonly vsockPorts: readonly string[];
  readonly listenPorts: readonly string[];
  readonly imageRoots: readonly string[];
  readonly firmwareRoots: readonly string[];
  readonly pciDevices: readonly string[];
  readonly networks: readonly string[];
  readonly forwardPorts: readonly string[];
  readonly migrationTargets: readonly string[];
  readonly maxVmCpus?: number | undefined;
  readonly maxVmMemory?: number | undefined;
  /** The agent's own files, which no root that holds this directory stands for. */
  readonly stateDir?: string | undefined;
  /** Disks that the agent has made for a VM may stand on those that it has frozen here. */
  readonly snapshotDir?: string | undefined;
}

/** Canonical forms alone: `..` in a path, or a longer one, would pass for a device that it is not. */
const PCI_DEVICE =
  /^((\/sys\/bus\/pci\/devices\/)?([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|\/sys\/bus\/mdev\/devices\/[0-9a-z][0-9a-z-]*)\/?$/i;

export class Policy {
  readonly #config: PolicyConfig;

  constructor(config: PolicyConfig) {
    this.#config = config;
  }

  checkMethod(method: string): void {
    if (matchesAny(this.#config.methods, method)) return;
    throw denied(`method ${method} may not be called on this host`, 'methods');
  }

  /** `specOf` gives that of the VM to which the command goes: few commands are a matter of it. */
  checkQmp(command: string, args: Readonly<Record<string, unknown>> | undefined, specOf: () => VmSpec): void {
    const { qmpCommands } = this.#config;
    const instead = REPLACED_COMMANDS.get(command);
    const isAllowed = instead === undefined ? matchesAny(qmpCommands, command) : qmpCommands.includes(command);
    if (!isAllowed) {
      const why = instead === undefined ? '' : ` (the method ${instead} does it, and keeps what Fairlead knows of the VM true)`;
      throw denied(`QMP command ${command} may not be sent on this host${why}`, 'qmpCommands');
    }
    checkRemoval(command, args, specOf);
  }

  checkPort(port: number): void {
    if (isInRanges(this.#config.vsockPorts, port)) return;
    throw denied(`streams to vsock port ${port} may not be opened on this host`, 'vsockPorts');
  }

  checkListenPort(port: number): void {
    if (isInRanges(this.#config.listenPorts, port)) return;
    throw denied(`what guests dial on vsock port ${port} may not be heard on this host`, 'listenPorts');
  }

  /**
   * Sizes, files and devices of the host that the spec asks for, and the files that its qcow2 images name in turn. Images change, so it is
   * asked again at each start, before and after QEMU has opened them.
   */
  async checkSpec(spec: VmSpec): Promise<void> {
    this.#checkSize(spec);
    for (const device of spec.pciDevices) this.checkPciDevice('spec.pciDevices', device);
    for (const [index, network] of spec.networks.entries()) this.checkNetwork(`spec.networks[${index}]`, network);
    const { firmware, kernel, initrd } = spec.boot;
    // Firmware that many guests share lies where the system has it; its variables are the guest's own, as its disks are.
    if (firmware !== undefined) await checkFile('spec.boot.firmware.code', firmware.code, this.#firmware);
    await this.#checkImage('spec.boot.firmware.vars', firmware?.vars, spec.name);
    if (firmware?.vars !== undefined) await checkMayWrite('spec.boot.firmware.vars', firmware.vars, this.#config.stateDir);
    await this.#checkImage('spec.boot.kernel', kernel);
    await this.#checkImage('spec.boot.initrd', initrd);
    for (const [index, disk] of spec.disks.entries()) await this.checkDisk(`spec.disks[${index}]`, disk, spec.name);
  }

  /** `field` is where the disk stands in what the caller wrote, `vm` whose it is. */
  async checkDisk(field: string, disk: Disk, vm?: string): Promise<void> {
    const { path, format } = disk;
    const { snapshotDir, stateDir } = this.#config;
    await this.#checkImage(`${field}.path`, path, vm);
    if (path === undefined) return;
    const isWritten = disk.media === 'disk' && !disk.readOnly;
    if (isWritten) await checkMayWrite(`${field}.path`, path, stateDir);
    if (format !== 'qcow2') return;
    const data = isWritten ? (await filesOfQcow2(path))?.data : undefined;
    if (data !== undefined) await checkMayWrite(`${field}.path: the data file of ${path}`, data, stateDir);
    const images = this.#imagesOf(vm);
    const isOwn = this.#ownDisks(vm).some((directory) => dirname(path) === directory);
    // A frozen disk is only ever below one that was made for this VM: nobody names one, and nobody else's image does.
    const more = isOwn && snapshotDir !== undefined ? [snapshotDir] : [];
    await checkImagesBelow(`${field}.path`, path, { ...images, roots: [...images.roots, ...more] });
  }

  /** A tap or bridge by its name, and the ports of the host that a network of QEMU's own leads into the guest. */
  checkNetwork(field: string, network: Network): void {
    const { networks, forwardPorts } = this.#config;
    const name = networkName(network);
    if (!matchesAny(networks, name)) throw denied(`${field}: network ${name} may not be used on this host`, 'networks');
    if (network.type !== 'user') return;
    const port = network.forwards.map(({ hostPort }) => hostPort).find((hostPort) => !isInRanges(forwardPorts, hostPort));
    if (port !== undefined) throw denied(`${field}.forwards: port ${port} of this host may not be forwarded`, 'forwardPorts');
  }

  checkPciDevice(field: string, device: string): void {
    if (PCI_DEVICE.test(device) && matchesAny(this.#config.pciDevices, device)) return;
    throw denied(`${field}: ${device} may not be passed through`, 'pciDevices');
  }

  /** Where the memory of a guest may be sent: `tcp:HOST:PORT`, or `unix:PATH` below a directory that is named as `unix:DIRECTORY`. */
  async checkMigration(uri: string): Promise<void> {
    const { migrationTargets } = this.#config;
    if (migrationTargets.includes('*')) return;
    const unix = uri.startsWith('unix:') ? uri.slice('unix:'.length) : undefined;
    if (unix === undefined && matchesAny(migrationTargets, uri)) return;
    if (unix === undefined) throw denied(`a VM may not be migrated to ${uri}`, 'migrationTargets');
    const roots = migrationTargets.flatMap((target) => (target.startsWith('unix:') ? [target.slice('unix:'.length)] : []));
    await checkFile('uri', unix, { setting: 'migrationTargets', roots, stateDir: this.#config.stateDir });
  }

  #checkSize({ cpus, memory }: VmSpec): void {
    const { maxVmCpus, maxVmMemory } = this.#config;
    if (maxVmCpus !== undefined && cpus.count > maxVmCpus) {
      throw denied(`spec.cpus.count: a VM of this host may have ${maxVmCpus} CPUs, not ${cpus.count}`, 'maxVmCpus');
    }
    const bytes = memory.maxBytes ?? memory.bytes;
    if (maxVmMemory !== undefined && bytes > maxVmMemory) {
      throw denied(`spec.memory: a VM of this host may have ${maxVmMemory} bytes, not ${bytes}`, 'maxVmMemory');
    }
  }

  async #checkImage(field: string, path: string | undefined, vm?: string): Promise<void> {
    if (path === undefined) return;
    if (imageOf(path) !== undefined) {
      throw new FairleadError(
        'INVALID_PARAMS',
        `${field}: ${path} is an image, which a VM gets when it is made; name a file here`,
      );
    }
    const images = this.#imagesOf(vm);
    await checkFile(field, path, { ...images, roots: [...images.roots, ...this.#ownDisks(vm)] });
  }

  /** Where the disks are that the agent itself has made for a VM. */
  #ownDisks(vm: string | undefined): string[] {
    const { stateDir } = this.#config;
    return stateDir === undefined || vm === undefined ? [] : [join(stateDir, 'vms', vm, 'disks')];
  }

  /** What the hub has brought, whatever else guests may have, and what this VM writes onto it. */
  #imagesOf(vm: string | undefined): FileRoots {
    const { imageRoots, stateDir } = this.#config;
    const brought = stateDir === undefined ? [] : [join(stateDir, 'images', 'sha256')];
    const given = stateDir === undefined || vm === undefined ? [] : [overlaysOf(stateDir, vm)];
    return { setting: 'imageRoots', roots: [...imageRoots, ...brought, ...given], stateDir, given };
  }

  get #firmware(): FileRoots {
    const { imageRoots, firmwareRoots, stateDir } = this.#config;
    return { setting: 'firmwareRoots', roots: [...firmwareRoots, ...imageRoots], stateDir };
  }
}

function networkName(network: Network): string {
  if (network.type === 'tap') return `tap:${network.tap}`;
  return network.type === 'bridge' ? `bridge:${network.bridge}` : 'user';
}

/** A pattern is a name, or a prefix with `*` at its end. */
function matchesAny(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern));
}

function isInRanges(ranges: readonly string[], port: number): boolean {
  return ranges.some((range) => {
    if (range === '*') return true;
    const [first, last] = range.split('-').map(Number);
    return first !== undefined && port >= first && port <= (last ?? first);
  });
}
