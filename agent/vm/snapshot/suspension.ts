/**
 * What the record of a suspended VM says of the guest that sleeps: enough to make the very same machine again, and to know its device
 * state and its RAM for what was left. It is part of the VM's record, which is replaced atomically: with it the VM is suspended, and once
 * it is taken out (the commit point of a resume) nobody can go on from that state a second time.
 */
import * as v from 'valibot';
import { Count, Timestamp, VsockPort } from '../../../shared/protocol/common.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { DiskFileIdentity } from './disk-file.ts';
import { GuestAbi } from './guest-abi.ts';
import { RamFileIdentity } from './ram-file.ts';

export const DURABILITIES = ['process', 'host'] as const;
export type Durability = (typeof DURABILITIES)[number];

/** What is known of a saved state: it is checked before a QEMU gets it. */
export const DeviceStateSum = v.strictObject({ bytes: Count, sha256: v.string() });
export type DeviceStateSum = v.InferOutput<typeof DeviceStateSum>;

export const Suspension = v.strictObject({
  at: Timestamp,
  /** `host`: RAM was on the disk when the suspend was answered. */
  durability: v.picklist(DURABILITIES),
  bootId: v.string(),
  /** The machine that the guest was left in, beyond what the spec says. */
  machine: v.string(),
  accelerator: v.picklist(['kvm', 'tcg']),
  qemuVersion: v.string(),
  /** PCIe ports for devices that come and go: as many as it was started with, whatever has come since. */
  ports: Count,
  deviceState: DeviceStateSum,
  ram: v.array(RamFileIdentity),
  disks: v.array(DiskFileIdentity),
  /** What the guest sees of its machine. */
  abi: GuestAbi,
});
export type Suspension = v.InferOutput<typeof Suspension>;

/** The vsock of a guest that had to let go of it for a suspend; it gets one like it when it goes on. */
export const UnpluggedVsock = v.strictObject({ slot: Count, readyPort: v.optional(VsockPort) });

/** The VM as its owner has it, whatever it is without at the moment. */
export function wholeSpec(record: { readonly spec: VmSpec; readonly unpluggedVsock?: VmSpec['vsock'] }): VmSpec {
  const { spec, unpluggedVsock } = record;
  return spec.vsock !== undefined || unpluggedVsock === undefined ? spec : { ...spec, vsock: unpluggedVsock };
}
