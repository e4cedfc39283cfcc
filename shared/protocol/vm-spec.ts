/**
 * What a VM is made of, as the caller states it. Output of the schema has every default filled in, so that the spec stored with a VM
 * says what was run even when a later version's defaults differ; and it is input to the same schema, which leaves it as it is.
 */
import * as v from 'valibot';
import { Bytes, bytesAtLeast, Count, HostPath, Labels, Name, VsockPort } from './common.ts';
import { FileOrImage } from './image-ref.ts';
import { Disk, DiskInput, Network, NetworkInput, Slot } from './vm-spec-devices.ts';
import { fillIn } from './vm-spec-fill.ts';
import { MachineType } from './vm-spec-machines.ts';

const MAX_CPUS = 1024;
const upTo = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max));
const listOf = <Item extends v.GenericSchema>(item: Item, max: number) => v.pipe(v.array(item), v.maxLength(max));

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

/**
 * `maxBytes` is what the VM may grow to while it runs. `backing: file` keeps RAM in a shared file of the VM, which a suspend can leave
 * where it is; `anonymous` is ordinary memory.
 */
const Memory = v.strictObject({
  bytes: v.optional(bytesAtLeast('16MiB'), 256 * 1024 ** 2),
  maxBytes: v.optional(Bytes),
  backing: v.optional(v.picklist(['anonymous', 'file']), 'anonymous'),
});

/** With `vars`, the VM's own file of variables, firmware is a flash device; without, it is the machine's ROM. */
const Firmware = v.strictObject({ code: HostPath, vars: v.optional(HostPath) });

const Boot = v.strictObject({
  firmware: v.optional(Firmware),
  kernel: v.optional(FileOrImage),
  initrd: v.optional(FileOrImage),
  args: v.optional(v.pipe(v.string(), v.maxLength(2048), v.regex(/^[^\0]*$/, 'must not contain a NUL character'))),
});

/** `readyPort`: a connection that the guest makes to CID 2 on this port is its word that it is ready (`vm.ready`). */
const vsock = <S extends v.GenericSchema>(slot: S) => v.strictObject({ slot, readyPort: v.optional(VsockPort) });

/** Where qemu-ga listens: its virtio-serial port, or a vsock port. */
const GuestAgent = v.variant('via', [
  v.strictObject({ via: v.optional(v.literal('virtio-serial'), 'virtio-serial') }),
  v.strictObject({ via: v.literal('vsock'), port: v.optional(VsockPort, 1022) }),
]);

/** Waits double from `delayMs` to `maxDelayMs`, with jitter, and start anew after a run of `healthyMs`. */
const Restart = v.strictObject({
  policy: v.optional(v.picklist(['never', 'on-failure', 'always']), 'never'),
  delayMs: v.optional(v.pipe(Count, v.minValue(100)), 1_000),
  maxDelayMs: v.optional(v.pipe(Count, v.minValue(100)), 60_000),
  healthyMs: v.optional(Count, 60_000),
});

const Idle = v.strictObject({ suspendAfterMs: v.pipe(Count, v.minValue(1_000)) });

/** Up to two ports for each device that a spec can hold. */
const HotplugSlots = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(32));

/** Small devices and spare ports; what is not given is as the machine can have it. */
const DevicesInput = v.strictObject({
  rng: v.optional(v.boolean()),
  balloon: v.optional(v.boolean()),
  pvpanic: v.optional(v.boolean()),
  vmgenid: v.optional(v.boolean()),
  hotplugSlots: v.optional(HotplugSlots),
});
const Devices = v.strictObject({
  rng: v.boolean(),
  balloon: v.boolean(),
  pvpanic: v.boolean(),
  vmgenid: v.boolean(),
  /** PCIe ports that are free when the VM starts, for devices attached while it runs. */
  hotplugSlots: HotplugSlots,
});

const PciDevice = v.pipe(v.string(), v.minLength(1), v.maxLength(255), v.regex(/^[A-Za-z0-9:._/-]+$/));

const COMMON = {
  name: Name,
  labels: v.optional(Labels, {}),
  machine: v.optional(MachineType, 'q35'),
  accelerator: v.optional(Accelerator, 'auto'),
  cpus: v.optional(Cpus, {}),
  memory: v.optional(Memory, {}),
  boot: v.optional(Boot, {}),
  guestAgent: v.optional(GuestAgent),
  /** PCI devices to pass through: a PCI address, a path below /sys/bus/pci/devices/ or one below /sys/bus/mdev/devices/. */
  pciDevices: v.optional(listOf(PciDevice, 16), []),
  restart: v.optional(Restart, {}),
  idle: v.optional(Idle),
};

const Written = v.strictObject({
  ...COMMON,
  disks: v.optional(listOf(DiskInput, 26), []),
  networks: v.optional(listOf(NetworkInput, 16), []),
  vsock: v.optional(vsock(v.optional(Slot))),
  devices: v.optional(DevicesInput, {}),
});

const Filled = v.strictObject({
  ...COMMON,
  disks: listOf(Disk, 26),
  networks: listOf(Network, 16),
  vsock: v.optional(vsock(Slot)),
  devices: Devices,
});

const fill = (spec: v.InferOutput<typeof Written>): v.InferInput<typeof Filled> => fillIn(spec);

export const VmSpec = v.pipe(Written, v.transform(fill), Filled);
export type VmSpec = v.InferOutput<typeof VmSpec>;
export type VmSpecInput = v.InferInput<typeof VmSpec>;
