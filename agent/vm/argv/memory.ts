/**
 * Guest RAM. It is always the object `ram0`, whatever it is made of, so that the name of its block in a migration stream never changes;
 * what it can grow by while the VM runs is the virtio-mem device `vmem0` on `vmem0-ram`, which starts with nothing plugged.
 */
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { type ArgvHost, json, MIB, type Option } from './host.ts';
import { smallDevicePlace } from './slots.ts';

/** Sizes that virtio-mem plugs and unplugs are multiples of this: a huge page, which guests handle well. */
export const MEMORY_BLOCK_BYTES = 2 * MIB;

export function memoryOptions({ memory }: VmSpec, host: ArgvHost): Option[] {
  const size = `${memory.bytes / MIB}M`;
  const { ramFile, addedRamFile } = host.paths;
  const kind =
    host.privateRam === undefined
      ? backend(memory, host, ramFile)
      : { 'qom-type': 'memory-backend-file', 'mem-path': host.privateRam, share: false };
  const ram: Option = ['-object', json({ ...kind, id: 'ram0', size: memory.bytes })];
  if (memory.maxBytes === undefined) return [['-m', size], ram];
  const added = { ...backend(memory, host, addedRamFile), id: 'vmem0-ram', size: memory.maxBytes - memory.bytes, reserve: false };
  const device = {
    driver: 'virtio-mem-pci',
    id: 'vmem0',
    ...smallDevicePlace('vmem0'),
    memdev: 'vmem0-ram',
    'block-size': MEMORY_BLOCK_BYTES,
    'requested-size': 0,
  };
  return [['-m', `size=${size},maxmem=${memory.maxBytes / MIB}M`], ram, ['-object', json(added)], ['-device', json(device)]];
}

/** Shared where a vhost-user device must see it, or where the file is to outlive the process. */
function backend({ backing }: VmSpec['memory'], { vsock }: ArgvHost, file: string): object {
  if (backing === 'file') return { 'qom-type': 'memory-backend-file', 'mem-path': file, share: true };
  if (vsock?.backend.kind === 'vhost-user') return { 'qom-type': 'memory-backend-memfd', share: true };
  return { 'qom-type': 'memory-backend-ram' };
}
