/**
 * Which files of the host a guest may be given: those below the roots that the host's owner names, wherever links lead, and with a qcow2
 * image also those that it names in turn, all the way down.
 */
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import { overlaysDirectory } from '../images/overlays.ts';
import { filesOfQcow2 } from '../vm/qcow2-files.ts';

export interface FileRoots {
  /** The setting that names the roots, for the refusal. */
  readonly setting: string;
  readonly roots: readonly string[];
  /** The agent's own files, for which no root that holds this directory stands. */
  readonly stateDir?: string | undefined;
  /** Where this VM writes onto images: of such files it may have these alone. */
  readonly given?: readonly string[] | undefined;
}

/** An image on an image on an image: more than this is nobody's wish. */
const MAX_BACKING_DEPTH = 16;

/** A file that does not exist passes: who opens it says so better. @throws FairleadError PERMISSION_DENIED */
export async function checkFile(field: string, path: string, allowed: FileRoots): Promise<void> {
  const { roots, setting } = allowed;
  const realRoots = await Promise.all(roots.map(real));
  // The path as written, so that what lies outside is not even looked at; then where it leads.
  const isInside = (candidate: string, among: readonly string[]) => among.some((root) => isBelow(candidate, root));
  const target = await real(path);
  if (isInside(resolve(path), [...roots, ...realRoots]) && isInside(target, realRoots) && !(await isAgents(target, allowed)))
    return;
  const where = roots.length === 0 ? 'none is named' : roots.join(', ');
  throw denied(`${field}: ${path} is not in a directory whose files guests may have (${where})`, setting);
}

/** What a qcow2 image makes QEMU open besides itself. @throws FairleadError PERMISSION_DENIED */
export async function checkImagesBelow(
  field: string,
  path: string,
  allowed: FileRoots,
  depth = MAX_BACKING_DEPTH,
): Promise<void> {
  const named = await filesOfQcow2(path);
  if (named?.data !== undefined) await checkFile(`${field}: the data file of ${path}`, named.data, allowed);
  const backing = named?.backing;
  if (backing === undefined) return;
  if (depth === 0) throw denied(`${field}: ${path} has too many images below it`, allowed.setting);
  await checkFile(`${field}: the backing file of ${path}`, backing.path, allowed);
  if (backing.format === 'qcow2') await checkImagesBelow(field, backing.path, allowed, depth - 1);
}

/** What the hub has brought is in many VMs at once: nobody writes to it. @throws FairleadError PERMISSION_DENIED */
export async function checkMayWrite(field: string, path: string, stateDir: string | undefined): Promise<void> {
  if (stateDir === undefined || !isBelow(await real(path), await real(join(stateDir, 'images', 'sha256')))) return;
  const message = `${field}: ${path} is an image that other VMs have too: have it read only, or name it as an image to get an overlay`;
  throw new FairleadError('PERMISSION_DENIED', message, { details: { path } });
}

export function denied(what: string, setting: string): FairleadError {
  return new FairleadError('PERMISSION_DENIED', `${what}: its owner can allow it by ${setting}`, { details: { setting } });
}

/**
 * Keys, records and logs below the state directory, unless a root within it says otherwise. And whatever a root says, for their images lie
 * beside those of the host's owner: what VMs write onto images, and what has come of an image that is on its way.
 */
async function isAgents(target: string, { roots, stateDir, given = [] }: FileRoots): Promise<boolean> {
  if (stateDir === undefined) return false;
  const realState = await real(stateDir);
  if (!isBelow(target, realState)) return false;
  const closed = await Promise.all([overlaysDirectory(stateDir), join(stateDir, 'images', 'partial')].map(real));
  const isClosed = closed.some((directory) => isBelow(target, directory));
  const within = isClosed ? given : [join(stateDir, 'images'), ...roots.filter((root) => !isBelow(stateDir, root))];
  const realWithin = await Promise.all(within.map(real));
  return !realWithin.some((root) => root !== realState && isBelow(root, realState) && isBelow(target, root));
}

/**
 * Where a path leads, as the kernel goes: `..` behind a link leads out of where the link leads. Of one whose end does not exist, where its
 * directory leads: a link above it must not pass for what it is not.
 */
async function real(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const directory = dirname(path);
    return directory === path ? path : join(await real(directory), basename(path));
  }
}

function isBelow(path: string, directory: string): boolean {
  const root = resolve(directory);
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}
