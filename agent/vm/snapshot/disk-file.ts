/**
 * The files of a guest's disks, known again by what changes with each write. QEMU's lock on them ends with the process, so while a guest
 * sleeps another VM, or a person, may write to them; a guest that went on then would ruin them, since it knows what they held before.
 */
import { stat } from 'node:fs/promises';
import * as v from 'valibot';
import { FairleadError } from '../../../shared/errors.ts';
import { Count } from '../../../shared/protocol/common.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';

export const DiskFileIdentity = v.strictObject({ path: v.string(), bytes: Count, inode: v.string(), writtenNs: v.string() });
export type DiskFileIdentity = v.InferOutput<typeof DiskFileIdentity>;

/** Once QEMU has written all that it will. A block device tells nothing of its writes, and is left out. */
export async function identifyDiskFiles({ disks, boot }: VmSpec): Promise<DiskFileIdentity[]> {
  const paths = [...disks.map(({ path }) => path), boot.firmware?.vars].filter((path) => path !== undefined);
  const identities = await Promise.all([...new Set(paths)].map((path) => identify(path)));
  return identities.filter((identity) => identity !== undefined);
}

/** @throws FairleadError WRONG_STATE for a file that is not as the guest left it. */
export async function checkDiskFiles(vm: string, expected: readonly DiskFileIdentity[]): Promise<void> {
  for (const disk of expected) {
    const is = await identify(disk.path).catch(() => undefined);
    const wrong =
      is === undefined
        ? 'is gone'
        : is.inode !== disk.inode
          ? 'is another file'
          : is.writtenNs === disk.writtenNs && is.bytes === disk.bytes
            ? undefined
            : 'was written to';
    if (wrong === undefined) continue;
    const message = `a disk of VM ${vm} ${wrong} while it was suspended: ${disk.path}`;
    throw new FairleadError('WRONG_STATE', `${message}; the guest would ruin it. vm.stop with graceMs 0 gives the guest up`, {
      details: { vm, path: disk.path },
    });
  }
}

async function identify(path: string): Promise<DiskFileIdentity | undefined> {
  const is = await stat(path, { bigint: true });
  if (!is.isFile()) return undefined;
  return { path, bytes: Number(is.size), inode: String(is.ino), writtenNs: String(is.mtimeNs) };
}
