/**
 * The variables of a guest's firmware, which it writes to as to a disk. QEMU locks the images of disks, and of flash it does not (tried: 7.2
 * and 10), so it is looked at here that no two VMs have one file.
 */
import { stat } from 'node:fs/promises';
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';

/** @param others those of the host's other VMs that run or sleep. @throws FairleadError CONFLICT */
export async function requireOwnVars(spec: VmSpec, others: readonly VmSpec[]): Promise<void> {
  const path = spec.boot.firmware?.vars;
  const file = await identityOf(path);
  if (file === undefined) return;
  for (const other of others) {
    if ((await identityOf(other.boot.firmware?.vars)) !== file) continue;
    const what = `spec.boot.firmware.vars of VM ${spec.name} is ${JSON.stringify(path)}, which VM ${other.name} has`;
    throw new FairleadError('CONFLICT', `${what}: give each its own copy`, {
      details: { vm: spec.name, path, usedBy: other.name },
    });
  }
}

/** By whatever name it goes; undefined where there is none, which is for others to complain of. */
async function identityOf(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  return stat(path).then(
    ({ dev, ino }) => `${dev}:${ino}`,
    () => undefined,
  );
}
