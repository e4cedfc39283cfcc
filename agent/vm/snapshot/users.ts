/**
 * Who stands on the files of a snapshot, found by looking: VMs and snapshots whose disks have one of them below, and processes that have
 * its RAM mapped. Nobody keeps count, so nothing can be counted wrong.
 */

import { join, sep } from 'node:path';
import type { VmInfo } from '../../../shared/protocol/vm.ts';
import type { Vms } from '../api.ts';
import type { SnapshotCatalogue } from './catalogue.ts';
import { chainOf } from './image-chain.ts';
import type { Manifest } from './manifest.ts';

/** By the name of the snapshot; VMs by their names, snapshots as `snapshot:NAME`. */
export async function usersOf(
  vms: Vms,
  catalogue: SnapshotCatalogue,
  manifests: readonly Manifest[],
): Promise<Map<string, string[]>> {
  const users = new Map(manifests.map(({ name }) => [name, new Set<string>()]));
  const note = (path: string, user: string): void => {
    for (const [name, set] of users) {
      if (path.startsWith(catalogue.directoryOf(name) + sep) && user !== `snapshot:${name}`) set.add(user);
    }
  };
  for (const vm of vms.list()) {
    for (const path of await mappedBy(vms, vm)) note(path, vm.name);
    for (const { path, format } of vm.spec.disks) {
      if (path !== undefined) for (const below of await chainOf({ path, format })) note(below.path, vm.name);
    }
  }
  for (const { name, disks } of manifests) {
    for (const { file, format } of disks) {
      if (file === undefined) continue;
      const path = join(catalogue.directoryOf(name), file);
      for (const below of await chainOf({ path, format })) note(below.path, `snapshot:${name}`);
    }
  }
  return new Map([...users].map(([name, set]) => [name, [...set].sort()]));
}

/** RAM that a process has copy on write. */
async function mappedBy(vms: Vms, { name, pid }: VmInfo): Promise<string[]> {
  if (pid === undefined) return [];
  const { argv } = await vms.args({ vm: name });
  return argv.flatMap((argument) => {
    const path = /"mem-path":("(?:[^"\\]|\\.)*")/.exec(argument)?.[1];
    // SAFETY: what stands there is a JSON string, by the expression that found it.
    return path === undefined ? [] : [JSON.parse(path) as string];
  });
}
