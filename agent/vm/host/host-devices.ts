/**
 * What a VM has on its host for as long as its process lives, beside its sockets: the taps of its bridged networks, and the files of its
 * RAM. Made before a start, released after the end; releasing what is not there does nothing, so it also serves an agent that finds what
 * another one left.
 */
import { rm, stat } from 'node:fs/promises';
import { toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Logger } from '../api.ts';
import type { HostDevices } from '../argv/host.ts';
import { networkMac } from '../argv/networks.ts';
import type { ProcessUser } from '../confinement/process-user.ts';
import { makeTap, removeTaps, requireTap, tapName } from '../network/tap.ts';
import { canUseVhostNet } from '../network/vhost-net.ts';
import { makeRamFiles, removeRamFiles } from '../snapshot/ram-file.ts';
import type { VmPaths } from '../store.ts';
import { requirePciDevices } from './passthrough.ts';

export interface HostDevicesRequest {
  readonly spec: VmSpec;
  readonly paths: VmPaths;
  /** Whom QEMU runs as, where not as the agent. */
  readonly user: ProcessUser | undefined;
  /** The guest goes on in the RAM that is there, or in somebody else's. */
  readonly keepsRam: boolean;
  readonly signal: AbortSignal;
}

/** What fails leaves some of it: release it then. @throws FairleadError what makeTap and requirePciDevices throw, and errors of the file system. */
export async function prepareHostDevices({ spec, paths, user, keepsRam, signal }: HostDevicesRequest): Promise<HostDevices> {
  const owner = { vm: spec.name, dir: paths.dir };
  await requirePciDevices(spec, user);
  for (const network of spec.networks) {
    if (network.type === 'tap') await requireTap(owner, network);
    if (network.type === 'bridge') await makeTap(owner, network, { mac: networkMac(spec.name, network), user, signal });
  }
  if (!keepsRam) await makeRamFiles(spec, paths, user);
  return findHostDevices(spec, paths, user);
}

/** What the VM's devices find on this host once it is prepared. */
export async function findHostDevices(
  spec: VmSpec,
  { dir }: VmPaths,
  user: Pick<ProcessUser, 'uid' | 'gid'> | undefined,
): Promise<HostDevices> {
  const bridged = spec.networks.filter(({ type }) => type === 'bridge');
  const hasTaps = spec.networks.some(({ type }) => type !== 'user');
  const [vhostNet, blockDevices] = await Promise.all([
    hasTaps && canUseVhostNet(user),
    blockDevicesAmong(spec.disks.map(({ path }) => path)),
  ]);
  return { vhostNet, taps: Object.fromEntries(bridged.map(({ id, slot }) => [id, tapName({ dir }, slot)])), blockDevices };
}

/** With `keepsRam` the guest is to go on later. Never throws: what cannot be removed is tried again at the agent's next start. */
export async function releaseHostDevices(
  vm: string,
  paths: VmPaths,
  { logger, keepsRam }: { readonly logger: Logger; readonly keepsRam: boolean },
): Promise<void> {
  try {
    await removeTaps({ vm, dir: paths.dir });
    if (!keepsRam) await Promise.all([removeRamFiles(paths), rm(paths.deviceState, { force: true })]);
  } catch (error) {
    logger.error({ vm, error: toFairleadError(error).message }, 'could not remove what a VM had on its host');
  }
}

/** Those of the paths that are block devices and no files; what cannot be looked at is for QEMU to complain of. */
export async function blockDevicesAmong(paths: readonly (string | undefined)[]): Promise<string[]> {
  const there = paths.filter((path) => path !== undefined);
  const kinds = await Promise.all(
    there.map((path) =>
      stat(path).then(
        (stats) => stats.isBlockDevice(),
        () => false,
      ),
    ),
  );
  return there.filter((_, index) => kinds[index]);
}
