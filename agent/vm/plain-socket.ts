/**
 * Restricting a socket to its owner in a directory that QEMU may own: whoever has broken out of one can put a link in the place of the
 * socket between its making and the change of its mode, and `chmod` by path would follow it to any file of the host. A hard link, where the
 * kernel lets everybody make one, shows by its count: what was just made has one name.
 */
import { chmodSync, chownSync, closeSync, constants, fstatSync, openSync } from 'node:fs';
import { FairleadError } from '../../shared/errors.ts';

/** Only to be named, neither read nor written (open(2)); the same number on x86-64 and arm64. */
const O_PATH = 0o10000000;

/**
 * For its owner alone, the agent unless another is named. At once, since a start waits for it: five turns of the thread pool, which may be
 * busy with disks, take longer than all of this.
 * @throws what open throws, PERMISSION_DENIED for what is no socket, or has another name too: a link is opened as such.
 */
export function restrictSocket(path: string, owner?: { readonly uid: number; readonly gid: number }): void {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  try {
    const found = fstatSync(fd);
    if (!found.isSocket() || found.nlink !== 1)
      throw new FairleadError('PERMISSION_DENIED', `${path} is no socket of the agent's: something else was put in its place`);
    // The very file that was looked at, whatever its name leads to by now (proc(5)).
    const very = `/proc/self/fd/${fd}`;
    chmodSync(very, 0o600);
    if (owner !== undefined) chownSync(very, owner.uid, owner.gid);
  } finally {
    closeSync(fd);
  }
}
