/** Methods that change what the disks of VMs stand on, and nothing that their guests see (agent/vm/snapshot/disk-base.ts has how). */
import * as v from 'valibot';
import { Bytes, Count, Name } from './common.ts';
import type { MethodContract } from './contract.ts';
import { DeviceId } from './vm-spec-devices.ts';

/** A second, of a VM that runs; 0 is as fast as it goes. */
const maxBandwidthBytes = v.optional(Bytes, 0);

const call = {
  target: 'agent',
  kind: 'call',
  since: 1,
  role: 'operator',
  idempotent: true,
  /** False where it stood on that already. */
  result: v.strictObject({ changed: v.boolean() }),
  /** Of the image, as its guest sees it. */
  progress: v.strictObject({ doneBytes: Count, totalBytes: Count }),
  errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'CONFLICT', 'QMP_FAILED', 'STORAGE_FAILED'],
} as const;

export const DISK_IMAGE_METHODS = {
  'disk.flatten': {
    ...call,
    summary:
      'Copy into the image of a disk all that it has below it, so that it stands on nothing; the VM may run. Cancelled, it stands on what it stood on',
    params: v.strictObject({ vm: Name, id: DeviceId, maxBandwidthBytes }),
  },
  'disk.rebase': {
    ...call,
    summary:
      'Put a disk that was made from a snapshot on the disk of another one; its guest sees no change. A VM that runs is only put on one that is below it already',
    params: v.strictObject({ vm: Name, id: DeviceId, snapshot: Name, maxBandwidthBytes }),
  },
} as const satisfies Record<string, MethodContract>;
