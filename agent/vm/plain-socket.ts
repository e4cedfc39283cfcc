/**
 * Restricting a socket to its owner in a directory that QEMU may own: whoever has broken out of one can put a link in the place of the
 * socket between its making and the change of its mode, and `chmod` by path would follow it to any file of the host. A hard link, where the
 * kernel lets everybody make one, shows by its count: what was just made has one name.
 */
import { chmod, chown, constants, open } from 'node:fs/promises';
import { FairleadError } from '../../shared/errors.ts';

/** Only to be named, neither read nor written (open(2)); the same number on x86-64 and arm64. */
const O_PATH = 0o10000000;

/**
 * For its owner alone, the agent unless another is named.
 * @throws what open throws, PERMISSION_DENIED for what is no socket, or has another name too: a link is opened as such.
 */
export async function restrictSocket(path: string, owner?: { readonly uid: number; readonly gid: number }): Promise<void> {
  await using file = await open(path, O_PATH | constants.O_NOFOLLOW);
  const found = await file.stat();
  if (!found.isSocket() || found.nlink !== 1)
    throw new FairleadError('PERMISSION_DENIED', `${path} is no socket of the agent's: something else was put in its place`);
  // The very file that was looked at, whatever its name leads to by now (proc(5)).
  const very = `/proc/self/fd/${file.fd}`;
  await chmod(very, 0o600);
  if (owner !== undefined) await chown(very, owner.uid, owner.gid);
}
