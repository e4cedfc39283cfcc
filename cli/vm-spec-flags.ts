/**
 * A VM spec from a file and flags: `-f web.yaml` gives the ground, flags lie over it, and without a kernel or a disk in either the guest
 * image that `fairlead image build` made is taken. Paths are paths on the host; a relative one is taken from the working directory,
 * which helps only where the host is this machine.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { FairleadError } from '../shared/errors.ts';
import { imageOf } from '../shared/protocol/image-ref.ts';
import type { VmSpecInput } from '../shared/protocol/vm-spec.ts';
import { demoImage } from './image/demo-image.ts';
import { EMPTY, type SpecFlags } from './vm-spec-options.ts';

type Boot = NonNullable<VmSpecInput['boot']>;
type DiskInput = NonNullable<VmSpecInput['disks']>[number];
type NetworkInput = NonNullable<VmSpecInput['networks']>[number];

/** What is wrong with the merged spec is said by the contract's own validation, in the hub. */
export async function specFromFlags(name: string, flags: SpecFlags): Promise<VmSpecInput> {
  const base = flags.file === undefined ? {} : await readSpec(flags.file);
  const spec: VmSpecInput = { ...base, ...flagFields(flags, base), name };
  const hasBoot = spec.boot?.kernel !== undefined || spec.boot?.firmware !== undefined;
  return hasBoot || spec.disks !== undefined ? spec : withDemoImage(spec, flags);
}

function flagFields(flags: SpecFlags, base: Partial<VmSpecInput>): Partial<VmSpecInput> {
  const boot = {
    ...base.boot,
    ...(flags.kernel !== undefined && { kernel: fileOrImage(flags.kernel) }),
    ...(flags.initrd !== undefined && { initrd: fileOrImage(flags.initrd) }),
    ...(flags.append !== undefined && { args: flags.append }),
    ...firmware(flags, base),
  };
  const memory = {
    ...base.memory,
    ...(flags.memory !== undefined && { bytes: flags.memory }),
    ...(flags.maxMemory !== undefined && { maxBytes: flags.maxMemory }),
    ...(flags.memoryBacking !== undefined && { backing: flags.memoryBacking }),
  };
  const disks = flagDisks(flags);
  const networks = flagNetworks(flags);
  return {
    ...(Object.keys(boot).length > 0 && { boot }),
    ...(flags.machine !== undefined && { machine: flags.machine }),
    ...(flags.accel !== undefined && { accelerator: flags.accel }),
    ...(flags.cpus !== undefined && { cpus: { ...base.cpus, count: flags.cpus } }),
    ...(Object.keys(memory).length > 0 && { memory }),
    ...(disks.length > 0 && { disks }),
    ...(networks.length > 0 && { networks }),
    ...(flags.pci !== undefined && { pciDevices: [...flags.pci] }),
    ...(flags.guestAgent !== undefined && { guestAgent: { via: flags.guestAgent } }),
    ...(flags.restart !== undefined && { restart: { ...base.restart, policy: flags.restart } }),
    ...(flags.suspendAfter !== undefined && { idle: { suspendAfterMs: flags.suspendAfter } }),
    ...(flags.hotplugSlots !== undefined && { devices: { ...base.devices, hotplugSlots: flags.hotplugSlots } }),
    ...(flags.label !== undefined && { labels: { ...base.labels, ...flags.label } }),
    ...(flags.vsock === true && base.vsock === undefined && { vsock: {} }),
    ...(flags.vsock === false && { vsock: undefined }),
  };
}

function firmware(flags: SpecFlags, base: Partial<VmSpecInput>): Pick<Boot, 'firmware'> {
  const code = flags.firmware === undefined ? base.boot?.firmware?.code : resolve(flags.firmware);
  const vars = flags.firmwareVars === undefined ? base.boot?.firmware?.vars : resolve(flags.firmwareVars);
  if (code === undefined) {
    if (vars === undefined) return {};
    throw new FairleadError('INVALID_PARAMS', 'firmware variables are given and no firmware: give --firmware too');
  }
  return { firmware: { code, ...(vars !== undefined && { vars }) } };
}

/** CD drives come after the disks. Those of the file are replaced: which of them a flag would mean is not to be known. */
function flagDisks({ disk = [], cdrom = [] }: SpecFlags): DiskInput[] {
  return [
    ...disk.map((path): DiskInput => ({ path: fileOrImage(path), format: diskFormat(path) })),
    ...cdrom.map((path): DiskInput => (path === EMPTY ? { media: 'cdrom' } : { media: 'cdrom', path: fileOrImage(path) })),
  ];
}

/** Taps first, then bridges, then the host's own network with all ports. */
function flagNetworks({ tap = [], bridge = [], forward, user }: SpecFlags): NetworkInput[] {
  return [
    ...tap.map((name): NetworkInput => ({ type: 'tap', tap: name })),
    ...bridge.map((name): NetworkInput => ({ type: 'bridge', bridge: name })),
    ...(forward === undefined && user !== true ? [] : [{ type: 'user' as const, forwards: [...(forward ?? [])] }]),
  ];
}

function withDemoImage(spec: VmSpecInput, flags: SpecFlags): VmSpecInput {
  const image = demoImage();
  if (image === undefined) {
    throw new FairleadError(
      'INVALID_PARAMS',
      'the VM has no kernel and no disk: give --kernel, --disk or --firmware, or run `fairlead image build`',
    );
  }
  const vsock = flags.vsock === false ? undefined : (spec.vsock ?? { readyPort: image.readyPort });
  const { vsock: _replaced, ...rest } = spec;
  return {
    ...rest,
    boot: { ...spec.boot, kernel: image.kernel, initrd: image.initrd, args: spec.boot?.args ?? image.args },
    guestAgent: spec.guestAgent ?? { via: 'virtio-serial' },
    ...(vsock && { vsock }),
  };
}

async function readSpec(path: string): Promise<Partial<VmSpecInput>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new FairleadError('NOT_FOUND', `could not read the VM spec ${path}`, { cause: error });
  }
  try {
    const value: unknown = parseYaml(text, { maxAliasCount: 16 });
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('it is no mapping');
    // Only the outer shape is known here; the hub validates every field before anything is done with it.
    return value;
  } catch (error) {
    throw new FairleadError('INVALID_PARAMS', `could not understand the VM spec ${path} as YAML or JSON`, { cause: error });
  }
}

function diskFormat(path: string): 'raw' | 'qcow2' {
  return path.endsWith('.qcow2') ? 'qcow2' : 'raw';
}

/** A path from where the command runs, or an image by its name. */
export function fileOrImage(text: string): string {
  return imageOf(text) === undefined ? resolve(text) : text;
}
