/** A disk of a VM by its id. */
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { DataDisk } from '../../../shared/protocol/vm-spec-devices.ts';

/** @throws FairleadError NOT_FOUND, with those that there are. */
export function requireDisk({ name, spec }: { readonly name: string; readonly spec: VmSpec }, id: string): DataDisk {
  const disk = spec.disks.find((candidate) => candidate.id === id);
  if (disk?.media === 'disk') return disk;
  const ids = spec.disks.flatMap((candidate) => (candidate.media === 'disk' ? [candidate.id] : []));
  const why = disk === undefined ? `it has ${ids.length === 0 ? 'none' : ids.join(', ')}` : 'that is a CD drive';
  throw new FairleadError('NOT_FOUND', `VM ${name} has no disk ${id}: ${why}`, { details: { vm: name, id } });
}
