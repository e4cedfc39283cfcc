/**
 * A VM spec from a file and flags: `-f web.yaml` gives the ground, flags lie over it, and without a kernel or a disk in either the guest
 * image that `fairlead image build` made is taken. Paths are paths on the host; a relative one is taken from the working directory,
 * which helps only where the host is this machine.
 */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { parse as parseYaml } from 'yaml';
import { FairleadError } from '../shared/errors.ts';
import type { VmSpecInput } from '../shared/protocol/vm-spec.ts';
import { demoImage } from './image/demo-image.ts';

export interface SpecFlags {
  readonly file?: string;
  readonly machine?: 'q35' | 'microvm' | 'virt';
  readonly accel?: 'auto' | 'kvm' | 'tcg';
  readonly cpus?: number;
  readonly memory?: string;
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly disk?: readonly string[];
  readonly label?: Record<string, string>;
  readonly forward?: readonly { readonly hostPort: number; readonly guestPort: number }[];
  readonly vsock?: boolean;
}

/** What is wrong with the merged spec is said by the contract's own validation, in the hub. */
export async function specFromFlags(name: string, flags: SpecFlags): Promise<VmSpecInput> {
  const base = flags.file === undefined ? {} : await readSpec(flags.file);
  const spec: VmSpecInput = { ...base, ...flagFields(flags, base), name };
  return spec.boot?.kernel === undefined && spec.disks === undefined ? withDemoImage(spec, flags) : spec;
}

function flagFields(flags: SpecFlags, base: Partial<VmSpecInput>): Partial<VmSpecInput> {
  const boot = {
    ...base.boot,
    ...(flags.kernel !== undefined && { kernel: resolve(flags.kernel) }),
    ...(flags.initrd !== undefined && { initrd: resolve(flags.initrd) }),
    ...(flags.append !== undefined && { args: flags.append }),
  };
  return {
    ...(Object.keys(boot).length > 0 && { boot }),
    ...(flags.machine !== undefined && { machine: flags.machine }),
    ...(flags.accel !== undefined && { accelerator: flags.accel }),
    ...(flags.cpus !== undefined && { cpus: { ...base.cpus, count: flags.cpus } }),
    ...(flags.memory !== undefined && { memory: { ...base.memory, bytes: flags.memory } }),
    ...(flags.disk !== undefined && { disks: flags.disk.map((path) => ({ path: resolve(path), format: diskFormat(path) })) }),
    ...(flags.label !== undefined && { labels: { ...base.labels, ...flags.label } }),
    ...(flags.forward !== undefined && { networks: [{ type: 'user' as const, forwards: [...flags.forward] }] }),
    ...(flags.vsock === true && base.vsock === undefined && { vsock: {} }),
    ...(flags.vsock === false && { vsock: undefined }),
  };
}

function withDemoImage(spec: VmSpecInput, flags: SpecFlags): VmSpecInput {
  const image = demoImage();
  if (image === undefined) {
    throw new FairleadError(
      'INVALID_PARAMS',
      'the VM has no kernel and no disk: give --kernel or --disk, or run `fairlead image build`',
    );
  }
  const vsock = flags.vsock === false ? undefined : (spec.vsock ?? { readyPort: image.readyPort });
  const { vsock: _replaced, ...rest } = spec;
  return {
    ...rest,
    boot: { ...spec.boot, kernel: image.kernel, initrd: image.initrd, args: spec.boot?.args ?? image.args },
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

/** Collector for a repeatable `--label key=value`. */
export function collectLabels(text: string, labels: Record<string, string> = {}): Record<string, string> {
  const split = text.indexOf('=');
  if (split < 1) throw new InvalidArgumentError('Write a label as key=value.');
  return { ...labels, [text.slice(0, split)]: text.slice(split + 1) };
}

/** Collector for a repeatable option. */
export function collect(text: string, values: readonly string[] = []): string[] {
  return [...values, text];
}

/** Collector for a repeatable `--forward HOSTPORT:GUESTPORT`. */
export function collectForwards(
  text: string,
  forwards: readonly { hostPort: number; guestPort: number }[] = [],
): { hostPort: number; guestPort: number }[] {
  const match = /^(\d{1,5}):(\d{1,5})$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Write a forward as HOSTPORT:GUESTPORT.');
  return [...forwards, { hostPort: Number(match[1]), guestPort: Number(match[2]) }];
}
