/**
 * What a VM is made of, as the caller states it. Output of the schema has every default filled in, so that the spec stored with a VM
 * says what was run even when a later version's defaults differ.
 */
import * as v from 'valibot';
import { Bytes, bytesAtLeast, HostPath, Labels, Name, VsockPort } from './common.ts';

const MAX_CPUS = 1024;
const upTo = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max));

export const MachineType = v.picklist(['q35', 'microvm', 'virt']);
export type MachineType = v.InferOutput<typeof MachineType>;

export const Accelerator = v.picklist(['auto', 'kvm', 'tcg']);
export type Accelerator = v.InferOutput<typeof Accelerator>;

const Cpus = v.strictObject({
  count: v.optional(upTo(MAX_CPUS), 1),
  model: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(255), v.regex(/^[A-Za-z0-9._+=,-]+$/))),
  topology: v.optional(
    v.strictObject({
      sockets: upTo(MAX_CPUS),
      dies: v.optional(upTo(64), 1),
      cores: upTo(MAX_CPUS),
      threads: v.optional(upTo(8), 1),
    }),
  ),
});

const Memory = v.strictObject({
  bytes: v.optional(bytesAtLeast('16MiB'), 256 * 1024 ** 2),
});

const Boot = v.strictObject({
  kernel: v.optional(HostPath),
  initrd: v.optional(HostPath),
  args: v.optional(v.pipe(v.string(), v.maxLength(2048), v.regex(/^[^\0]*$/, 'must not contain a NUL character'))),
});

const Throttle = v.strictObject({ bytesPerSecond: Bytes, burstBytesPerSecond: v.optional(Bytes) });

const Disk = v.strictObject({
  path: HostPath,
  format: v.optional(v.picklist(['raw', 'qcow2']), 'raw'),
  readOnly: v.optional(v.boolean(), false),
  throttle: v.optional(Throttle),
  serial: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(20), v.regex(/^[\x21-\x7e]+$/))),
});

const Mac = v.pipe(
  v.string(),
  v.regex(/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/, 'must be a MAC address such as 52:54:00:12:34:56'),
);
const TcpPort = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));

const Network = v.variant('type', [
  v.strictObject({
    type: v.literal('tap'),
    /** Linux IFNAMSIZ is 16 with its NUL. */
    tap: v.pipe(v.string(), v.minLength(1), v.maxLength(15), v.regex(/^[^\s/]+$/)),
    mac: v.optional(Mac),
  }),
  v.strictObject({
    type: v.literal('user'),
    mac: v.optional(Mac),
    forwards: v.optional(
      v.pipe(
        v.array(
          v.strictObject({ protocol: v.optional(v.picklist(['tcp', 'udp']), 'tcp'), hostPort: TcpPort, guestPort: TcpPort }),
        ),
        v.maxLength(64),
      ),
      [],
    ),
  }),
]);

/** `readyPort`: a connection that the guest makes to CID 2 on this port is its word that it is ready (`vm.ready`). */
const Vsock = v.strictObject({ readyPort: v.optional(VsockPort) });

export const VmSpec = v.strictObject({
  name: Name,
  labels: v.optional(Labels, {}),
  machine: v.optional(MachineType, 'q35'),
  accelerator: v.optional(Accelerator, 'auto'),
  cpus: v.optional(Cpus, {}),
  memory: v.optional(Memory, {}),
  boot: v.optional(Boot, {}),
  disks: v.optional(v.pipe(v.array(Disk), v.maxLength(26)), []),
  networks: v.optional(v.pipe(v.array(Network), v.maxLength(16)), []),
  vsock: v.optional(Vsock),
  /** PCI devices to pass through: a PCI address, a path below /sys/bus/pci/devices/ or one below /sys/bus/mdev/devices/. */
  pciDevices: v.optional(
    v.pipe(v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(255), v.regex(/^[A-Za-z0-9:._/-]+$/))), v.maxLength(16)),
    [],
  ),
  /** Entropy, memory balloon and panic notification; each on unless turned off. */
  devices: v.optional(
    v.strictObject({
      rng: v.optional(v.boolean(), true),
      balloon: v.optional(v.boolean(), true),
      pvpanic: v.optional(v.boolean(), true),
    }),
    {},
  ),
});
export type VmSpec = v.InferOutput<typeof VmSpec>;
export type VmSpecInput = v.InferInput<typeof VmSpec>;
