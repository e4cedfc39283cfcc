/** The way to a file of QEMU's user through directories of the agent's. */
import { chmod, chown, stat } from 'node:fs/promises';

/** May be passed through by the group, not read. */
const PASSAGE = 0o710;

/** A directory that lets its owner alone in lets the user's group pass; one that is shared already stays as its owner wants it. */
export async function openPassage(path: string, { uid, gid }: { readonly uid: number; readonly gid: number }): Promise<void> {
  const is = await stat(path);
  const isShared = (is.mode & 0o067) !== 0;
  const isDone = (is.mode & 0o777) === PASSAGE && is.gid === gid;
  if (isShared || isDone || is.uid === uid) return;
  await chown(path, is.uid, gid);
  await chmod(path, PASSAGE);
}
