/**
 * From a wished size to what each device is asked for. Pure.
 *
 *     0          asked            bootBytes          asked       maxBytes
 *     ├──────────┴────balloon─────┤├───virtio-mem────┴──────────┤
 *
 * At or below what the VM was started with the balloon takes the rest and the memory device gives all of its memory back; above, the
 * balloon is empty and the memory device has the difference.
 */
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { MemoryReading } from './memory-gauge.ts';

const MIB = 1024 ** 2;

export interface MemoryPlan {
  /** Undefined where nothing is asked of the device, such as one that is not there. */
  readonly ramBytes: number | undefined;
  readonly pluggedBytes: number | undefined;
}

/** @throws FairleadError INVALID_PARAMS for a size that cannot be, UNSUPPORTED for one that the VM has no device for. */
export function planMemory(
  { name, memory }: VmSpec,
  bytes: number,
  { ramBytes, pluggedBytes, blockBytes = MIB }: Pick<MemoryReading, 'ramBytes' | 'pluggedBytes' | 'blockBytes'>,
): MemoryPlan {
  const { bytes: bootBytes, maxBytes = bootBytes } = memory;
  const refuse = (code: 'INVALID_PARAMS' | 'UNSUPPORTED', why: string): FairleadError =>
    new FairleadError(code, `VM ${name} cannot have ${mib(bytes)} of memory: ${why}`, {
      details: { vm: name, bytes, bootBytes, maxBytes },
    });

  if (bytes > maxBytes) {
    const isFixed = memory.maxBytes === undefined || pluggedBytes === undefined;
    if (isFixed) throw refuse('UNSUPPORTED', `it was started with ${mib(bootBytes)} and no memory.maxBytes to grow to`);
    throw refuse('INVALID_PARAMS', `memory.maxBytes is ${mib(maxBytes)}`);
  }
  if (bytes >= bootBytes) {
    const extra = bytes - bootBytes;
    if (extra > 0 && pluggedBytes === undefined) throw refuse('UNSUPPORTED', 'its QEMU has no memory device');
    if (extra % blockBytes !== 0) {
      const near = bootBytes + Math.round(extra / blockBytes) * blockBytes;
      throw refuse(
        'INVALID_PARAMS',
        `above ${mib(bootBytes)} it changes by ${mib(blockBytes)} at a time, such as to ${mib(near)}`,
      );
    }
    return {
      ramBytes: ramBytes === undefined ? undefined : bootBytes,
      pluggedBytes: pluggedBytes === undefined ? undefined : extra,
    };
  }
  if (ramBytes === undefined) throw refuse('UNSUPPORTED', `it was started with ${mib(bootBytes)} and without a balloon`);
  if (bytes % MIB !== 0) throw refuse('INVALID_PARAMS', 'it has to be a whole number of MiB');
  return { ramBytes: bytes, pluggedBytes: pluggedBytes === undefined ? undefined : 0 };
}

/** For messages. */
export function mib(bytes: number): string {
  return bytes % MIB === 0 ? `${bytes / MIB}MiB` : `${bytes} bytes`;
}
