/**
 * Disks and networks of a VM's spec.
 *
 * Each has an `id`, by which it is named while the VM runs, and (all but a CD drive) a `slot`, which is its place on the machine's PCI
 * bus. Both are filled in where they are not given (vm-spec-fill.ts) and then stay with the device for life, so that what comes and goes
 * beside it never changes what the guest sees of it.
 */
import * as v from 'valibot';
import { Bytes, Count } from './common.ts';
import { FileOrImage } from './image-ref.ts';

/** Names derived from it, such as `ID-throttle`, must fit the 31 characters of a QEMU node name. */
export const DeviceId = v.pipe(
  v.string(),
  v.maxLength(20),
  v.regex(/^[a-z]([a-z0-9-]*[a-z0-9])?$/, 'must be lower-case letters, digits and inner dashes, and begin with a letter'),
);

/** The number of a PCIe port: `slot3` is the port 3. */
export const Slot = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(127));

/** As a caller writes a device, or as it is stored. */
const WRITTEN = { id: v.optional(DeviceId), slot: v.optional(Slot) };
const FILLED = { id: DeviceId, slot: Slot };

/** Rates of reads and writes together; 0 is no limit. A burst that is not above its rate means the same as none. */
export const Throttle = v.strictObject({
  bytesPerSecond: v.optional(Bytes, 0),
  burstBytesPerSecond: v.optional(Bytes, 0),
  operationsPerSecond: v.optional(Count, 0),
  burstOperationsPerSecond: v.optional(Count, 0),
});
export type Throttle = v.InferOutput<typeof Throttle>;

const DiskSerial = v.pipe(v.string(), v.minLength(1), v.maxLength(20), v.regex(/^[\x21-\x7e]+$/));

/**
 * `cache`: `none` goes past the host's page cache, `writethrough` answers a write when it is on the disk, `unsafe` ignores the guest's
 * flushes. `aio: native` needs `cache: none`.
 */
const IMAGE = {
  format: v.optional(v.picklist(['raw', 'qcow2']), 'raw'),
  cache: v.optional(v.picklist(['none', 'writeback', 'writethrough', 'unsafe']), 'writeback'),
  aio: v.optional(v.picklist(['threads', 'native', 'io_uring']), 'threads'),
  serial: v.optional(DiskSerial),
};

function dataDisk<Place extends v.ObjectEntries>(place: Place) {
  return v.strictObject({
    media: v.optional(v.literal('disk'), 'disk'),
    ...place,
    path: FileOrImage,
    readOnly: v.optional(v.boolean(), false),
    throttle: v.optional(Throttle),
    ...IMAGE,
  });
}

/** Without a path the drive is empty. */
function cdrom<Id extends v.ObjectEntries>(id: Id) {
  return v.strictObject({
    media: v.literal('cdrom'),
    ...id,
    path: v.optional(FileOrImage),
    readOnly: v.optional(v.literal(true), true),
    ...IMAGE,
  });
}

export const DiskInput = v.variant('media', [dataDisk(WRITTEN), cdrom({ id: WRITTEN.id })]);
export const Disk = v.variant('media', [dataDisk(FILLED), cdrom({ id: FILLED.id })]);
export type DiskInput = v.InferOutput<typeof DiskInput>;
export type Disk = v.InferOutput<typeof Disk>;
export type DataDisk = Extract<Disk, { media: 'disk' }>;
export type Cdrom = Extract<Disk, { media: 'cdrom' }>;

/** The address of one host, so its first byte is even. One pattern, since JSON Schema takes but one. */
export const Mac = v.pipe(
  v.string(),
  v.regex(
    /^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$/,
    'must be the MAC address of one host, such as 52:54:00:12:34:56, with an even first byte',
  ),
);

const TcpPort = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));

/** As dev_valid_name() of Linux has it, IFNAMSIZ being 16 with its NUL, and without `%`, from which the kernel makes up names. */
const InterfaceName = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(15),
  v.regex(/^(?!\.{1,2}$)[^\s/:%]+$/, 'must be the name of an interface of the host'),
);

const Forward = v.strictObject({
  protocol: v.optional(v.picklist(['tcp', 'udp']), 'tcp'),
  hostPort: TcpPort,
  guestPort: TcpPort,
});

/**
 * `tap` is an existing tap of the host, `bridge` has the agent make one on the named bridge for as long as the VM runs, `user` is QEMU's
 * own network behind the host's address. Without `mac` the address is made from the names of VM and device.
 */
function network<Place extends v.ObjectEntries>(place: Place) {
  const nic = { ...place, mac: v.optional(Mac) };
  return v.variant('type', [
    v.strictObject({ type: v.literal('tap'), ...nic, tap: InterfaceName }),
    v.strictObject({ type: v.literal('bridge'), ...nic, bridge: InterfaceName }),
    v.strictObject({ type: v.literal('user'), ...nic, forwards: v.optional(v.pipe(v.array(Forward), v.maxLength(64)), []) }),
  ]);
}

export const NetworkInput = network(WRITTEN);
export const Network = network(FILLED);
export type NetworkInput = v.InferOutput<typeof NetworkInput>;
export type Network = v.InferOutput<typeof Network>;
