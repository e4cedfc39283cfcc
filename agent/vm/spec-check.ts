/** What the schema of a spec cannot say: fields that must fit each other and the machine, and files that must be there. */
import { constants, type Stats } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { FairleadError } from '../../shared/errors.ts';
import { type FieldIssue, invalidValue } from '../../shared/protocol/parse-with.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES, type MachineFeatures } from '../../shared/protocol/vm-spec-machines.ts';
import { MIB } from './argv/host.ts';
import { MEMORY_BLOCK_BYTES } from './argv/memory.ts';
import { SLOTS_WITHOUT_PORTS, usedSlots } from './argv/slots.ts';

/** Every spec that is stored has passed this. @throws FairleadError INVALID_PARAMS with each field that does not fit. */
export function checkSpec(spec: VmSpec): void {
  const issues = [
    ...memoryIssues(spec),
    ...cpuIssues(spec),
    ...bootIssues(spec),
    ...machineIssues(spec),
    ...diskIssues(spec),
    ...networkIssues(spec),
    ...identityIssues(spec),
    ...restartIssues(spec),
  ];
  if (issues.length > 0) throw invalidValue(issues, 'INVALID_PARAMS', `the spec of VM ${spec.name}`);
}

function* memoryIssues({ memory: { bytes, maxBytes } }: VmSpec): Generator<FieldIssue> {
  if (bytes % MIB !== 0) {
    yield { path: 'spec.memory.bytes', message: `must be a whole number of MiB, such as ${Math.round(bytes / MIB)}MiB` };
  }
  if (maxBytes === undefined) return;
  const path = 'spec.memory.maxBytes';
  if (maxBytes <= bytes) yield { path, message: 'must be more than memory.bytes, or left out' };
  else if ((maxBytes - bytes) % MEMORY_BLOCK_BYTES !== 0) {
    yield { path, message: `must be more than memory.bytes by a multiple of ${MEMORY_BLOCK_BYTES / MIB}MiB` };
  }
}

function* cpuIssues({ cpus: { count, topology } }: VmSpec): Generator<FieldIssue> {
  if (topology === undefined) return;
  const { sockets, dies, cores, threads } = topology;
  const product = sockets * dies * cores * threads;
  if (product !== count) yield { path: 'spec.cpus.count', message: `must be what the topology makes, ${product}` };
}

function* bootIssues({ boot }: VmSpec): Generator<FieldIssue> {
  if (boot.kernel === undefined && (boot.initrd ?? boot.args) !== undefined) {
    yield { path: 'spec.boot.kernel', message: 'is missing, and initrd and args are nothing without one' };
  }
}

/** Named when it is asked for, rather than left out in silence or found by QEMU. */
function* machineIssues(spec: VmSpec): Generator<FieldIssue> {
  const { machine, devices, disks, memory, boot, pciDevices } = spec;
  const features = MACHINE_FEATURES[machine];
  const wanted: readonly (readonly [feature: keyof MachineFeatures, path: string, isWanted: boolean, what: string])[] = [
    ['hotplug', 'spec.devices.hotplugSlots', devices.hotplugSlots > 0, 'cannot attach devices to a running VM'],
    ['pvpanic', 'spec.devices.pvpanic', devices.pvpanic, 'has no pvpanic device'],
    ['vmgenid', 'spec.devices.vmgenid', devices.vmgenid, 'has no generation id'],
    ['memoryHotplug', 'spec.memory.maxBytes', memory.maxBytes !== undefined, 'cannot grow in memory while it runs'],
    ['flash', 'spec.boot.firmware.vars', boot.firmware?.vars !== undefined, 'has no flash for variables of its firmware'],
    ['pciPassthrough', 'spec.pciDevices', pciDevices.length > 0, 'cannot have devices passed through'],
    ['cdrom', 'spec.disks', disks.some(({ media }) => media === 'cdrom'), 'has no CD drive'],
  ];
  for (const [feature, path, isWanted, what] of wanted) {
    if (isWanted && features[feature] === false) yield { path, message: `a machine of type ${machine} ${what}` };
  }
  const cdroms = disks.filter(({ media }) => media === 'cdrom').length;
  if (machine === 'q35' && cdroms > AHCI_PORTS) yield { path: 'spec.disks', message: `may have at most ${AHCI_PORTS} CD drives` };
  const highest = Math.max(...usedSlots(spec));
  if (!features.hotplug && highest >= SLOTS_WITHOUT_PORTS) {
    const most = `slots below ${SLOTS_WITHOUT_PORTS}, and so room for as many disks, networks and vsocks`;
    yield { path: 'spec.machine', message: `${machine} has only ${most}` };
  }
}

/** ICH9's AHCI controller. */
const AHCI_PORTS = 6;

function* diskIssues({ disks }: VmSpec): Generator<FieldIssue> {
  for (const [index, { aio, cache }] of disks.entries()) {
    if (aio === 'native' && cache !== 'none') {
      yield {
        path: `spec.disks[${index}].aio`,
        message: 'native needs cache none, since Linux does it past the page cache only',
      };
    }
  }
}

function* networkIssues({ networks }: VmSpec): Generator<FieldIssue> {
  const taken = new Set<string>();
  for (const [index, network] of networks.entries()) {
    if (network.type !== 'user') continue;
    for (const [at, { protocol, hostPort }] of network.forwards.entries()) {
      const port = `${protocol} ${hostPort}`;
      if (taken.has(port)) yield { path: `spec.networks[${index}].forwards[${at}]`, message: `${port} is forwarded already` };
      taken.add(port);
    }
  }
}

/** Ids that QEMU objects of ours have, or may be given. */
const RESERVED_IDS =
  /^(ram|vmem|vsock|balloon|rng|pvpanic|vmgenid|serial|scsi|agent|pci|slot|iothread|qmp|monitor|console|firmware)[0-9-]*/;

/** No device may take the id or the slot of another. */
function* identityIssues(spec: VmSpec): Generator<FieldIssue> {
  const { disks, networks, vsock } = spec;
  const ids = new Map<string, string>();
  const slots = new Map<number, string>(vsock === undefined ? [] : [[vsock.slot, 'spec.vsock']]);
  const devices = [
    ...networks.map((network, index) => ({ ...network, path: `spec.networks[${index}]` })),
    ...disks.map((disk, index) => ({ ...disk, path: `spec.disks[${index}]` })),
  ];
  for (const device of devices) {
    const { id, path } = device;
    if (RESERVED_IDS.test(id)) yield { path: `${path}.id`, message: 'is of a form that belongs to other devices of the VM' };
    const sameId = ids.get(id);
    if (sameId !== undefined) yield { path: `${path}.id`, message: `is that of ${sameId} too` };
    ids.set(id, path);
    if (!('slot' in device)) continue;
    const sameSlot = slots.get(device.slot);
    if (sameSlot !== undefined) yield { path: `${path}.slot`, message: `is that of ${sameSlot} too` };
    slots.set(device.slot, path);
  }
}

function* restartIssues({ restart, guestAgent, vsock }: VmSpec): Generator<FieldIssue> {
  if (restart.maxDelayMs < restart.delayMs) {
    yield { path: 'spec.restart.maxDelayMs', message: 'must be at least restart.delayMs' };
  }
  if (guestAgent?.via === 'vsock' && vsock === undefined) {
    yield { path: 'spec.guestAgent.via', message: 'is vsock, and the VM has no vsock' };
  }
}

/** More RAM than the host has would start, and bring the host down later. @throws FairleadError LIMIT_EXCEEDED */
export function checkHostMemory({ name, memory }: VmSpec, hostBytes: number): void {
  if (memory.bytes <= hostBytes) return;
  const [wanted, has] = [memory.bytes, hostBytes].map((bytes) => `${Math.floor(bytes / MIB)}MiB`);
  throw new FairleadError('LIMIT_EXCEEDED', `spec.memory.bytes of VM ${name} is ${wanted}, and this host has ${has}`, {
    details: { vm: name, field: 'memory.bytes', memoryBytes: memory.bytes, hostBytes },
  });
}

/**
 * What is there is looked at and not opened, for to open a FIFO is to wait, and to open a device can be a deed.
 * @throws FairleadError NOT_FOUND, INVALID_PARAMS with the field and the path.
 */
export async function checkFiles({ name, boot, disks }: VmSpec): Promise<void> {
  const READ = constants.R_OK;
  const WRITE = constants.R_OK | constants.W_OK;
  const files = [
    { field: 'boot.firmware.code', path: boot.firmware?.code, mode: READ },
    { field: 'boot.firmware.vars', path: boot.firmware?.vars, mode: WRITE },
    { field: 'boot.kernel', path: boot.kernel, mode: READ },
    { field: 'boot.initrd', path: boot.initrd, mode: READ },
    ...disks.map(({ path, readOnly }, index) => ({ field: `disks[${index}].path`, path, mode: readOnly ? READ : WRITE })),
  ];
  await Promise.all(
    files.map(async ({ field, path, mode }) => {
      if (path === undefined) return;
      const what = `spec.${field} of VM ${name} is ${JSON.stringify(path)}`;
      const found = await look(path, mode).catch((error: unknown) => {
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
        const why = code === 'ENOENT' ? 'there is no such file on the host' : `the agent cannot use it: ${code}`;
        throw new FairleadError('NOT_FOUND', `${what}: ${why}`, {
          details: { vm: name, field, path, errno: code },
          cause: error,
        });
      });
      if (found.isFile() || (found.isBlockDevice() && field.startsWith('disks'))) return;
      const wanted = field.startsWith('disks') ? 'a file or block device' : 'a file';
      throw new FairleadError('INVALID_PARAMS', `${what}, which is ${kindOf(found)}: it has to be ${wanted}`, {
        details: { vm: name, field, path },
      });
    }),
  );
}

async function look(path: string, mode: number): Promise<Stats> {
  await access(path, mode);
  return await stat(path);
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return 'a directory';
  if (found.isFIFO()) return 'a FIFO';
  if (found.isSocket()) return 'a socket';
  return found.isCharacterDevice() ? 'a character device' : 'a block device';
}
