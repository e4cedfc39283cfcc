/**
 * What a guest sees of its machine, so that a saved guest is only ever put into the same one: QEMU itself loads a guest into a machine
 * with a device more without a word, and into one with another CPU until the guest stumbles.
 *
 * It is read off the command line, which says what QEMU is really told, with everything left out that is the host's side of a device.
 * The command line has to be that of the devices as they are when the guest is saved, whatever came and went since the start.
 */
import { isDeepStrictEqual } from 'node:util';
import * as v from 'valibot';
import { invalidValue } from '../../../shared/protocol/parse-with.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { usedSlots } from '../argv/slots.ts';

const Properties = v.record(v.string(), v.unknown());

export const GuestAbi = v.strictObject({
  /** With its version: an alias means another machine after an upgrade. */
  machine: v.string(),
  accelerator: v.string(),
  cpu: v.string(),
  /** Whose CPU that is, where the model is one's own: the host's (`host`), or this QEMU's (`max`). */
  cpuOf: v.optional(v.string()),
  smp: v.string(),
  memory: v.string(),
  firmware: v.optional(v.string()),
  /** By id: driver, address, and each property that the guest can tell. */
  devices: v.record(v.string(), Properties),
});
export type GuestAbi = v.InferOutput<typeof GuestAbi>;

/** Options without a value. */
const FLAGS = new Set(['-S', '-nodefaults', '-no-user-config']);

/** The host's side of a device, and what the saved state brings along (addresses of NICs, sizes of memory that came later). */
const HOST_SIDE = new Set([
  'drive',
  'netdev',
  'chardev',
  'iothread',
  'memdev',
  'rng',
  'vhostfd',
  'guest-cid',
  'host',
  'sysfsdev',
  'mac',
  'guid',
  'werror',
  'rerror',
  'romfile',
  'requested-size',
]);

/** @param cpuOf see GuestAbi; asked for models that depend on it. */
export function guestAbiOf(argv: readonly string[], cpuOf: (model: 'host' | 'max') => string): GuestAbi {
  const options = optionsOf(argv);
  const first = (flag: string): string => options.find(([name]) => name === flag)?.[1] ?? '';
  const [model = ''] = first('-cpu').split(',');
  const firmware = first('-bios');
  const devices = options.flatMap(([name, value]) => (name === '-device' ? [deviceOf(value)] : []));
  return {
    machine: first('-machine'),
    accelerator: first('-accel'),
    cpu: first('-cpu'),
    ...(model === 'host' || model === 'max' ? { cpuOf: cpuOf(model) } : {}),
    smp: first('-smp'),
    memory: first('-m'),
    ...(firmware === '' ? {} : { firmware }),
    devices: Object.fromEntries(devices),
  };
}

/** A clause for each difference, with both sides; none where a guest cannot tell the two apart. */
export function differencesOf(saved: GuestAbi, here: GuestAbi): string[] {
  const differences: string[] = [];
  const compare = (what: string, was: unknown, is: unknown): void => {
    if (!isDeepStrictEqual(was, is)) differences.push(`${what} was ${shown(was)} and is ${shown(is)}`);
  };
  for (const field of ['machine', 'accelerator', 'cpu', 'cpuOf', 'smp', 'memory', 'firmware'] as const) {
    compare(field === 'cpuOf' ? "the CPU's origin" : field, saved[field], here[field]);
  }
  for (const id of [...new Set([...Object.keys(saved.devices), ...Object.keys(here.devices)])].sort()) {
    const [was, is] = [saved.devices[id], here.devices[id]];
    if (was === undefined || is === undefined) compare(`device ${id}`, was?.['driver'], is?.['driver']);
    else for (const key of new Set([...Object.keys(was), ...Object.keys(is)])) compare(`${key} of ${id}`, was[key], is[key]);
  }
  return differences;
}

/** The spec by which a start makes that many PCIe ports, whatever has been attached to the machine that has them. */
export function withPorts(spec: VmSpec, ports: number): VmSpec {
  const free = ports - new Set(usedSlots(spec)).size;
  return ports === 0 ? spec : { ...spec, devices: { ...spec.devices, hotplugSlots: Math.max(0, free) } };
}

function optionsOf(argv: readonly string[]): (readonly [flag: string, value: string])[] {
  const options: (readonly [string, string])[] = [];
  for (let at = 0; at < argv.length; at++) {
    const flag = argv[at] ?? '';
    if (!FLAGS.has(flag)) options.push([flag, argv[++at] ?? '']);
  }
  return options;
}

/** Every device of ours is written in JSON, and has an id. */
function deviceOf(text: string): readonly [id: string, properties: Record<string, unknown>] {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), v.looseObject({ id: v.string() })), text);
  if (!read.success) throw invalidValue([{ path: 'argv', message: 'has a device without an id' }], 'INTERNAL', text);
  const { id, ...rest } = read.output;
  return [id, Object.fromEntries(Object.entries(rest).filter(([key]) => !HOST_SIDE.has(key)))];
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value);
}
