/**
 * PCI devices of the host that a VM is to have (VFIO, kernel Documentation/driver-api/vfio.rst): each must be in an IOMMU group, and be held
 * by the driver that hands devices on, which the host's owner gives it to; the agent takes no device away from the host.
 */
import { access, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { checkAccess, type ProcessUser } from '../confinement/process-user.ts';

const PCI_DEVICES = '/sys/bus/pci/devices';

/**
 * Looked at before the spawn, so that the error says what is amiss in the host's terms and not in QEMU's. What several devices of one group
 * need together is for QEMU to judge.
 * @throws FairleadError NOT_FOUND, UNSUPPORTED, CONFLICT; PERMISSION_DENIED for a group that QEMU's user may not open.
 */
export async function requirePciDevices({ name, pciDevices }: VmSpec, user: ProcessUser | undefined): Promise<void> {
  const groups = await Promise.all(
    pciDevices.map(async (device, index) => {
      const field = `spec.pciDevices[${index}]`;
      const path = await findGroup(`${field} of VM ${name} is ${device}`, device);
      return { field, path, writable: true };
    }),
  );
  if (user !== undefined) await checkAccess(name, user, groups);
}

/** The file by which a device's group is opened. */
async function findGroup(what: string, device: string): Promise<string> {
  const details = { device };
  const path = sysfsPath(device);
  if (!(await exists(path))) throw new FairleadError('NOT_FOUND', `${what}: this host has no such device`, { details });
  const group = await linked(join(path, 'iommu_group'));
  if (group === undefined) {
    const message = `${what}, which is in no IOMMU group: turn the host's IOMMU on, in its firmware and for its kernel`;
    throw new FairleadError('UNSUPPORTED', message, { details });
  }
  const file = `/dev/vfio/${group}`;
  if (await exists(file)) return file;
  const driver = (await linked(join(path, 'driver'))) ?? 'none';
  const message = `${what}, which the host has not given away (driver: ${driver}): give it to the driver vfio-pci`;
  throw new FairleadError('CONFLICT', message, { details: { ...details, driver } });
}

/** As QEMU finds it: an address may lack its domain. */
function sysfsPath(device: string): string {
  if (device.startsWith('/')) return device;
  return join(PCI_DEVICES, device.split(':').length === 2 ? `0000:${device}` : device);
}

async function linked(path: string): Promise<string | undefined> {
  return readlink(path).then(
    (target) => basename(target),
    () => undefined,
  );
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
