/**
 * The default directory for the RAM of guests, in memory: what is left there of VMs that this agent does not know any more (its state was thrown
 * away) is memory that nobody ever gets back, so the agent removes it at its start.
 *
 * The directory is named after the path of the agent's state, which two containers that share `/dev/shm` may have in common. So a file `.owner` in
 * it says whose it is, by the number of the state directory on its device:
 *
 *     none ──who makes it, or knows all that is in it──▶ its own ──an agent of other state──▶ shared
 *
 * Only its own is cleaned. In any other the agent tells of what it does not know, and leaves it alone.
 */
import { lstat, readdir, readFile, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toFairleadError } from '../../../shared/errors.ts';

const OWNER_FILE = '.owner';
const SHARED = 'shared';
/** As VmPaths names them. */
const RAM_FILE = /^(?<vm>.+)\.(?:ram|ram-added)$/u;

export interface RamDirectory {
  readonly ramDir: string;
  readonly stateDir: string;
  readonly logger: { warn(fields: object, message: string): void };
}

/** Before any VM is started. `known` are the VMs that the state directory has, whole or broken. Never rejects. */
export async function collectRam({ ramDir, stateDir, logger }: RamDirectory, known: ReadonlySet<string>): Promise<void> {
  try {
    const names = await readdir(ramDir).catch(() => undefined);
    // Most agents never make it.
    if (names === undefined) return;
    const left = names.filter((name) => {
      const vm = RAM_FILE.exec(name)?.groups?.['vm'];
      return vm !== undefined && !known.has(vm);
    });
    const isOwn = await claimRamDirectory({ ramDir, stateDir }, left.length === 0);
    for (const name of left) {
      const path = join(ramDir, name);
      const { size } = await lstat(path);
      const about = { path, bytes: size };
      if (isOwn) {
        await rm(path, { force: true });
        logger.warn(about, 'removed the RAM of a VM that is not there any more');
      } else {
        logger.warn(
          about,
          'left RAM of a VM that this agent does not know: remove it, unless another agent shares this directory',
        );
      }
    }
  } catch (error) {
    logger.warn({ path: ramDir, error: toFairleadError(error).message }, 'could not look for RAM that was left behind');
  }
}

/** Removes it when no guest has its RAM there. Never rejects. */
export async function leaveRamDirectory(ramDir: string): Promise<void> {
  try {
    const names = await readdir(ramDir);
    if (names.some((name) => name !== OWNER_FILE)) return;
    await rm(join(ramDir, OWNER_FILE), { force: true });
    await rmdir(ramDir);
  } catch {
    // Most often it was never made.
  }
}

/** `knowsAll`: nothing in it is of a VM that this agent does not know. Whether it is this agent's alone. @throws what the file system throws */
export async function claimRamDirectory(
  { ramDir, stateDir }: Pick<RamDirectory, 'ramDir' | 'stateDir'>,
  knowsAll: boolean,
): Promise<boolean> {
  const path = join(ramDir, OWNER_FILE);
  const identity = await identityOf(stateDir);
  const owner = await readFile(path, 'utf8').catch(() => undefined);
  if (owner === identity) return true;
  if (owner === SHARED || (owner === undefined && !knowsAll)) return false;
  await writeFile(path, owner === undefined ? identity : SHARED, { mode: 0o600 });
  return owner === undefined;
}

async function identityOf(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory, { bigint: true });
  return `${dev}:${ino}`;
}
