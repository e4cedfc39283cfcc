/**
 * How a VM's serial console is joined to the host: QEMU's chardev `pipe`, which reads `console.in`, a named pipe, and writes `console.out`,
 * a link to nowhere; what the guest writes is kept by the chardev's log alone.
 *
 * Not a socket, which QEMU would also write to: it waits for a client that is slow, the guest with it, and logs once more what it tries to
 * write again (tried on QEMU 7.2; a client that does not read at all stops the guest). A pipe has no client: anybody may write into it, and
 * nobody's absence or slowness is felt.
 */
import { execFile } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { lstat, symlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import { FairleadError } from '../../../shared/errors.ts';

const { O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;

interface Pipes {
  /** Path without `.in` and `.out`. */
  readonly consolePipes: string;
}

export function consoleInputOf({ consolePipes }: Pipes): string {
  return `${consolePipes}.in`;
}

/** Once for a VM: they lie in its directory and go with it. @throws FairleadError PROCESS_FAILED */
export async function makeConsolePipes(paths: Pipes): Promise<void> {
  const input = consoleInputOf(paths);
  const output = `${paths.consolePipes}.out`;
  try {
    if (!(await isThere(output))) await symlink('/dev/null', output);
    if (!(await isThere(input))) await promisify(execFile)('mkfifo', ['-m', '600', input]);
  } catch (error) {
    throw new FairleadError('PROCESS_FAILED', `could not make the pipes of a console, ${input} and ${output}`, { cause: error });
  }
}

/** For writing. @throws FairleadError INTERRUPTED while no QEMU reads it */
export function openConsoleInput(paths: Pipes, vm: string): Socket {
  const path = consoleInputOf(paths);
  let fd: number | undefined;
  try {
    fd = openSync(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
    if (!fstatSync(fd).isFIFO()) throw new Error(`${path} is no pipe`);
    return new Socket({ fd, readable: false, writable: true });
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw new FairleadError('INTERRUPTED', `could not open the console of VM ${vm} to type on it`, { cause: error });
  }
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
