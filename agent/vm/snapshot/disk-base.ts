/**
 * What the disks of VMs stand on, changed without a change to what their guests see: `disk.flatten` has a disk stand on nothing, and
 * `disk.rebase` on the disk of a snapshot.
 *
 *     the guest is there     QEMU copies while it goes on (pull-job.ts); onto a snapshot only where that is below the disk already
 *     the VM is at rest      qemu-img does (qemu-img.ts), onto any snapshot
 *
 * Nothing is recorded: the image's own header says what it stands on, and is changed last. So a crash in between has changed nothing that
 * anybody can see, and a repeat finishes what is left.
 */
import { dirname } from 'node:path';
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { DataDisk } from '../../../shared/protocol/vm-spec-devices.ts';
import { failpoint } from '../../failpoint.ts';
import type { CallOptions, Vms } from '../api.ts';
import type { Deadline } from '../deadline.ts';
import type { CheckPolicy } from '../devices/attach.ts';
import { requireDisk } from '../devices/find-disk.ts';
import type { LiveVm, RestingVm } from '../live-vm.ts';
import { REST_STATES } from '../machine.ts';
import { backingOf, chainOf, type Image } from './image-chain.ts';
import { virtualSize } from './overlay.ts';
import { beginPull, followPull, type PullProgress } from './pull-job.ts';
import { rebaseImage } from './qemu-img.ts';
import type { FileOwner } from './ram-file.ts';
import { ownDisksOf } from './restoration.ts';

export interface DiskBaseTools {
  readonly vms: Vms;
  readonly checkPolicy: CheckPolicy;
  /** Whom QEMU runs as, where not as the agent. */
  readonly owner: FileOwner | undefined;
}

/** A disk, and what it is to stand on: nothing where there is no `onto`. */
export interface DiskBaseRequest {
  readonly vm: string;
  readonly id: string;
  readonly onto?: Image | undefined;
  /** Of a VM that runs; 0 is as fast as it goes. */
  readonly maxBandwidthBytes: number;
}

export interface DiskBaseOptions extends CallOptions {
  /** Must not throw. */
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
}

/**
 * False where it stands on that already.
 * @throws FairleadError NOT_FOUND, WRONG_STATE for a VM that sleeps, or for one that runs and stands on something else, UNSUPPORTED,
 * CONFLICT, STORAGE_FAILED, CANCELLED, TIMEOUT. The disk stands on what it stood on then.
 */
export async function changeBase(tools: DiskBaseTools, request: DiskBaseRequest, options: DiskBaseOptions): Promise<boolean> {
  const { vms } = tools;
  const { vm, id, onto } = request;
  const doing = onto === undefined ? `flattening disk ${id} of` : `rebasing disk ${id} of`;
  const unlimited = { timeoutMs: Number.POSITIVE_INFINITY, ...options };
  if (REST_STATES.includes(vms.get(vm).state)) {
    return vms.atRest(vm, doing, unlimited, (resting, deadline) => atRest(tools, resting, request, { deadline, ...options }));
  }
  return vms.operate(vm, { doing, inTurn: false }, unlimited, (live, deadline) =>
    whileThere(tools, live, request, { deadline, doing, ...options }),
  );
}

interface Doing extends DiskBaseOptions {
  readonly deadline: Deadline;
}

async function whileThere(
  { vms }: DiskBaseTools,
  vm: LiveVm,
  { id, onto, maxBandwidthBytes: bytesPerSecond }: DiskBaseRequest,
  { deadline, doing, onProgress = () => {} }: Doing & { readonly doing: string },
): Promise<boolean> {
  // From before it begins, so that no end is missed.
  using events = vm.listen({ names: ['JOB_STATUS_CHANGE'] });
  const { signal, remainingMs: timeoutMs } = deadline;
  // In turn, so that nothing that reads the image is in the middle of it.
  const image = await vms.operate(vm.name, { doing, inTurn: true }, { signal, timeoutMs }, async (same, inTurn) => {
    const disk = requireOverlay(same, id);
    if (disk === undefined || (await isOn(disk, onto))) return undefined;
    const chain = await chainOf(disk);
    if (onto !== undefined && !chain.some(({ path }) => path === onto.path)) {
      const message = `disk ${id} of VM ${vm.name} does not stand on ${onto.path}, and QEMU puts it on nothing else while the VM runs`;
      throw new FairleadError('WRONG_STATE', `${message}: stop it first`, { details: { vm: vm.name, state: vm.state } });
    }
    await beginPull(same, { disk: id, base: onto?.path, bytesPerSecond }, inTurn);
    return disk;
  });
  if (image === undefined) return false;
  await failpoint('disk.copying');
  await followPull(vm, id, { events, deadline, onProgress });
  await failpoint('disk.based');
  if (await isOn(image, onto)) return true;
  throw new FairleadError('CONFLICT', `disk ${id} of VM ${vm.name} was put on something else meanwhile: repeat it`);
}

async function atRest(
  { checkPolicy, owner }: DiskBaseTools,
  { name, spec, paths }: RestingVm,
  { id, onto }: DiskBaseRequest,
  { deadline: { signal }, onProgress = () => {} }: Doing,
): Promise<boolean> {
  const disk = requireOverlay({ name, spec }, id);
  if (disk === undefined || (await isOn(disk, onto))) return false;
  if (onto !== undefined && dirname(disk.path) !== ownDisksOf(paths.dir)) {
    const message = `disk ${id} of VM ${name} is not one that was made from a snapshot, and others are not put on one`;
    throw new FairleadError('UNSUPPORTED', `${message}: ${disk.path}`, { details: { vm: name, path: disk.path } });
  }
  // What the images name is opened here as at a start.
  await checkPolicy(spec);
  const totalBytes = Number(await virtualSize(disk));
  await failpoint('disk.copying');
  await rebaseImage(disk.path, onto, {
    owner,
    signal,
    onProgress: (part) => onProgress({ doneBytes: Math.round(part * totalBytes), totalBytes }),
  });
  await failpoint('disk.based');
  return true;
}

/** Undefined for a raw image, which stands on nothing. @throws FairleadError NOT_FOUND, UNSUPPORTED */
function requireOverlay(vm: { readonly name: string; readonly spec: VmSpec }, id: string): DataDisk | undefined {
  const disk = requireDisk(vm, id);
  if (disk.format === 'raw') return undefined;
  if (!disk.readOnly) return disk;
  throw new FairleadError('UNSUPPORTED', `disk ${id} of VM ${vm.name} is read-only, and so is its image`, {
    details: { vm: vm.name, id },
  });
}

async function isOn(image: Image, onto: Image | undefined): Promise<boolean> {
  return (await backingOf(image))?.path === onto?.path;
}
