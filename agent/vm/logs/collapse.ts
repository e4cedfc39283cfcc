/**
 * Takes the beginning out of a file that another program has open for appending, without losing a byte of what it writes meanwhile:
 * fallocate(2) with FALLOC_FL_COLLAPSE_RANGE, which the file system does in one step, between two writes. ext4 and XFS have it; others, and
 * lengths that are no multiple of the file system's block, have not. By the program of util-linux, since Node has no such call.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { FileHandle } from 'node:fs/promises';

/** False when this cannot be done here; the file is then as it was. */
export async function collapseBeginning(file: FileHandle, bytes: number): Promise<boolean> {
  // By descriptor: the name may lead elsewhere by now.
  const argv = ['--collapse-range', '--offset', '0', '--length', `${bytes}`, '/proc/self/fd/3'];
  const program = spawn('fallocate', argv, { stdio: ['ignore', 'ignore', 'ignore', file.fd] });
  try {
    const [code] = await once(program, 'close');
    return code === 0;
  } catch {
    // The program is not there.
    return false;
  }
}
