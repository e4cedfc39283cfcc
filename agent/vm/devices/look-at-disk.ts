/** How a disk or CD drive is in QEMU at this moment, beside what the record says of it. */
import { isDeepStrictEqual } from 'node:util';
import { FairleadError } from '../../../shared/errors.ts';
import type { Params } from '../../../shared/protocol/methods.ts';
import { throttleLimits } from '../argv/disks.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';

/** What the guest sees, in bytes. @throws FairleadError NOT_FOUND, and what QMP throws. */
export async function sizeOfDisk(vm: LiveVm, id: string, limits: CommandLimits): Promise<number> {
  const devices = await vm.execute('query-block', {}, limits);
  const size = devices.find(({ inserted }) => inserted?.['node-name'] === `${id}-throttle`)?.inserted?.image['virtual-size'];
  if (size !== undefined) return size;
  throw new FairleadError('NOT_FOUND', `QEMU of VM ${vm.name} has no disk ${id}: stop and start the VM`);
}

/** Whether record and QEMU both have these limits. @throws FairleadError what QMP throws. */
export async function isThrottledSo(
  vm: LiveVm,
  { id, throttle }: Pick<Params<'disk.throttle'>, 'id' | 'throttle'>,
  limits: CommandLimits,
): Promise<boolean> {
  const wanted = throttleLimits(throttle);
  const disk = vm.spec.disks.find((candidate) => candidate.id === id);
  if (disk?.media !== 'disk' || !isDeepStrictEqual(throttleLimits(disk.throttle), wanted)) return false;
  const found = await vm.execute('qom-get', { path: `/objects/${id}-limits`, property: 'limits' }, limits);
  return (
    typeof found === 'object' &&
    found !== null &&
    Object.entries(wanted).every(([name, value]) => Reflect.get(found, name) === value)
  );
}

/** Whether record and QEMU both say that this is in the drive, or that nothing is. @throws FairleadError what QMP throws. */
export async function isMediumSo(
  vm: LiveVm,
  { id, path, format }: Pick<Params<'medium.change'>, 'id' | 'path' | 'format'>,
  limits: CommandLimits,
): Promise<boolean> {
  const drive = vm.spec.disks.find((disk) => disk.id === id);
  if (drive?.path !== path || (path !== undefined && drive?.format !== format)) return false;
  const devices = await vm.execute('query-block', {}, limits);
  const isEmpty = devices.find(({ qdev }) => qdev === id)?.inserted === undefined;
  return isEmpty === (path === undefined);
}
