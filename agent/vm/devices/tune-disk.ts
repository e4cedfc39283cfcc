/** What can be changed of a disk while it stays where it is: its size and its limits. */
import { isDeepStrictEqual } from 'node:util';
import { FairleadError } from '../../../shared/errors.ts';
import { invalidValue } from '../../../shared/protocol/parse-with.ts';
import type { Throttle } from '../../../shared/protocol/vm-spec-devices.ts';
import { throttleLimits } from '../argv/disks.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { requireDisk } from './find-disk.ts';
import { reconcileDevices } from './reconcile.ts';

const SECTOR_BYTES = 512;

/**
 * Makes a disk larger. Nobody makes one smaller: what the guest has at its end would be lost.
 * @throws FairleadError INVALID_PARAMS, NOT_FOUND, QMP_FAILED.
 */
export async function resizeDisk(vm: LiveVm, id: string, bytes: number, limits: CommandLimits): Promise<boolean> {
  await reconcileDevices(vm, limits);
  const disk = requireDisk(vm, id);
  const refuse = (message: string) =>
    invalidValue([{ path: 'params.bytes', message }], 'INVALID_PARAMS', `disk ${id} of VM ${vm.name}`);
  if (disk.readOnly) throw refuse('cannot be changed: the disk is read-only');
  if (bytes % SECTOR_BYTES !== 0) throw refuse(`must be a multiple of ${SECTOR_BYTES}`);
  const node = `${id}-throttle`;
  const devices = await vm.execute('query-block', {}, limits);
  const now = devices.find(({ inserted }) => inserted?.['node-name'] === node)?.inserted?.image['virtual-size'];
  if (now === undefined) throw new FairleadError('NOT_FOUND', `QEMU of VM ${vm.name} has no disk ${id}: stop and start the VM`);
  if (bytes < now) throw refuse(`must be at least what the disk has, ${now}: a disk is never made smaller`);
  if (bytes === now) return false;
  // The topmost node, so that every one below and the guest above hear of it.
  await vm.execute('block_resize', { 'node-name': node, size: bytes }, limits);
  return true;
}

/** The limits of a disk from now on, and at the next start. @throws FairleadError NOT_FOUND, QMP_FAILED. */
export async function throttleDisk(vm: LiveVm, id: string, throttle: Throttle, limits: CommandLimits): Promise<boolean> {
  await reconcileDevices(vm, limits);
  const disk = requireDisk(vm, id);
  const wanted = throttleLimits(throttle);
  await vm.execute('qom-set', { path: `/objects/${id}-limits`, property: 'limits', value: wanted }, limits);
  if (isDeepStrictEqual(throttleLimits(disk.throttle), wanted)) return false;
  await vm.changeSpec((spec) => ({
    ...spec,
    disks: spec.disks.map((other) => (other.media === 'disk' && other.id === id ? { ...other, throttle } : other)),
  }));
  return true;
}
