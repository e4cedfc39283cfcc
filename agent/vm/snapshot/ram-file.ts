/**
 * The files that guest RAM is kept in (`memory.backing: file`): made for one life of a guest, kept over its suspends, removed at its end.
 *
 * They are sparse, so they take what the guest has touched, up to their size. A file system that fills up meanwhile would end the guest
 * with SIGBUS at the first page that does not fit, so one is made only where all that was promised to the files beside it still fits too.
 * Whoever can write to a file owns its guest: they are mode 0600, in a directory that nobody else can change.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../../../shared/errors.ts';
import { Count } from '../../../shared/protocol/common.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { syncDirectory } from '../atomic-file.ts';
import { openPassage } from '../confinement/passage.ts';
import { claimRamDirectory } from './ram-directory.ts';

/**
 * By which a file is known again. One that was replaced has another inode, or the same one in another generation: ext4 gives the number of a
 * file that was removed to the next. The time at which the inode was made tells the two apart (statx(2); 0 on a file system without).
 */
export const RamFileIdentity = v.strictObject({ path: v.string(), bytes: Count, inode: v.string(), madeNs: v.string() });
export type RamFileIdentity = v.InferOutput<typeof RamFileIdentity>;

export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Of a VM; VmPaths has them. */
interface RamPaths {
  readonly ramFile: string;
  readonly addedRamFile: string;
  /** The state directory by which the default directory for RAM is known as the agent's own; undefined for another directory. */
  readonly ramOwner?: string | undefined;
}

const MIB = 1024 ** 2;
/** Bytes of the blocks in which `stat` counts (stat(2)). */
const STAT_BLOCK = 512;
/** statfs(2). */
const TMPFS = 0x01021994;
const RAMFS = 0x858458f6;
const HUGETLBFS = 0x958458f6;

/** In no file where the spec wants ordinary memory. */
export function ramFilesOf({ memory }: VmSpec, { ramFile, addedRamFile }: RamPaths): { path: string; bytes: number }[] {
  if (memory.backing !== 'file') return [];
  const files = [{ path: ramFile, bytes: memory.bytes }];
  if (memory.maxBytes !== undefined) files.push({ path: addedRamFile, bytes: memory.maxBytes - memory.bytes });
  return files;
}

/** Made here, for QEMU would let everybody read them. @throws FairleadError LIMIT_EXCEEDED without room, PERMISSION_DENIED, INVALID_PARAMS */
export async function makeRamFiles(spec: VmSpec, paths: RamPaths, owner: FileOwner | undefined): Promise<void> {
  const files = ramFilesOf(spec, paths);
  if (files.length === 0) return;
  const directory = dirname(paths.ramFile);
  await openRamDirectory(directory, { user: owner, stateDir: paths.ramOwner });
  await removeRamFiles(paths);
  await checkRoom(spec.name, directory, files);
  try {
    for (const { path, bytes } of files) {
      await using file = await open(path, 'wx', 0o600);
      if (owner !== undefined) await file.chown(owner.uid, owner.gid);
      await file.truncate(bytes);
    }
  } catch (error) {
    await removeRamFiles(paths);
    throw error;
  }
}

/** For what writes RAM into its file before QEMU runs it. @throws FairleadError UNSUPPORTED for huge pages, which are only ever mapped. */
export async function requireFillable(vm: string, { ramFile }: Pick<RamPaths, 'ramFile'>): Promise<void> {
  const directory = dirname(ramFile);
  // It is made with the first VM, on the file system of where it is to be.
  const is = await statfs(directory)
    .catch(() => statfs(dirname(directory)))
    .catch(() => undefined);
  if (is?.type !== HUGETLBFS) return;
  const message = `VM ${vm} cannot go on from an instant snapshot with RAM of its own: ${directory} is of huge pages, which nobody can write to`;
  throw new FairleadError('UNSUPPORTED', `${message}; take mode stream, or clones that share memory`, {
    details: { vm, path: directory },
  });
}

export async function removeRamFiles({ ramFile, addedRamFile }: RamPaths): Promise<void> {
  await Promise.all([rm(ramFile, { force: true }), rm(addedRamFile, { force: true })]);
}

/** Whether that QEMU has the RAM of a snapshot, copy on write. */
export function sharesRam(argv: readonly string[]): boolean {
  const ram = argv.find((argument) => argument.startsWith('{') && argument.includes('"id":"ram0"')) ?? '';
  return ram.includes('"memory-backend-file"') && ram.includes('"share":false');
}

export async function identifyRamFiles(spec: VmSpec, paths: RamPaths): Promise<RamFileIdentity[]> {
  return Promise.all(ramFilesOf(spec, paths).map(({ path }) => identify(path)));
}

/** @throws FairleadError WRONG_STATE for a file that is not the one that the guest was left in. */
export async function checkRamFiles(vm: string, expected: readonly RamFileIdentity[]): Promise<void> {
  for (const file of expected) {
    const is = await identify(file.path).catch(() => undefined);
    const wrong =
      is === undefined
        ? 'is gone'
        : is.inode !== file.inode || is.madeNs !== file.madeNs
          ? 'is another file'
          : is.bytes === file.bytes
            ? undefined
            : `has ${is.bytes} bytes instead of ${file.bytes}`;
    if (wrong === undefined) continue;
    const message = `the RAM of VM ${vm} ${wrong}: ${file.path}`;
    throw new FairleadError(
      'WRONG_STATE',
      `${message}; without it the guest cannot go on, and vm.stop with graceMs 0 gives it up`,
      {
        details: { vm, path: file.path },
      },
    );
  }
}

/** Until they are on the disk. @throws FairleadError UNSUPPORTED where there is none */
export async function syncRamFiles(vm: string, files: readonly Pick<RamFileIdentity, 'path'>[]): Promise<void> {
  for (const { path } of files) {
    await using file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    await file.sync();
  }
  // Their names too.
  for (const directory of new Set(files.map(({ path }) => dirname(path)))) await syncDirectory(directory);
  await requireDisk(vm, files);
}

/** @throws FairleadError UNSUPPORTED for files in memory, which a restart of the host would lose. */
export async function requireDisk(vm: string, files: readonly { readonly path: string }[]): Promise<void> {
  for (const { path } of files) {
    const { type } = await statfs(path);
    if (type !== TMPFS && type !== HUGETLBFS && type !== RAMFS) continue;
    const message = `the RAM of VM ${vm} is in ${dirname(path)}, which is memory and does not outlive the host`;
    throw new FairleadError('UNSUPPORTED', `${message}: take durability process, or let the host's owner set ramDir to a disk`);
  }
}

/** @throws FairleadError PERMISSION_DENIED for a directory that others can look into or change. */
async function openRamDirectory(
  path: string,
  { user, stateDir }: { user: FileOwner | undefined; stateDir: string | undefined },
): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode: 0o700 });
  const is = await lstat(path);
  const wrong = !is.isDirectory()
    ? 'it is no directory'
    : is.uid !== process.geteuid?.()
      ? `it belongs to user ${is.uid}`
      : (is.mode & 0o066) !== 0
        ? `its mode is ${(is.mode & 0o777).toString(8)}, which lets others in`
        : undefined;
  if (wrong === undefined) {
    if (stateDir !== undefined) await claimRamDirectory({ ramDir: path, stateDir }, made !== undefined);
    return user === undefined ? undefined : await openPassage(path, user);
  }
  throw new FairleadError(
    'PERMISSION_DENIED',
    `RAM of guests cannot be kept in ${path}: ${wrong}; it has to be the agent's own, mode 700`,
  );
}

async function checkRoom(vm: string, directory: string, files: readonly { readonly bytes: number }[]): Promise<void> {
  const { type, blocks, bavail, bsize } = await statfs(directory);
  if (type === HUGETLBFS) {
    for (const { bytes } of files) {
      if (bytes % bsize === 0) continue;
      const message = `the RAM of VM ${vm} has to be a multiple of ${bsize / MIB} MiB, the size of the pages of ${directory}`;
      throw new FairleadError('INVALID_PARAMS', message, { details: { path: 'spec.memory' } });
    }
  }
  const wanted = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const promised = await promisedIn(directory);
  // One without a limit of its own has what the pool of such pages has.
  const free = type === HUGETLBFS && blocks === 0 ? await freeInPool(bsize, promised) : bavail * bsize - promised;
  if (free >= wanted) return;
  const message = `there is no room for the RAM of VM ${vm} in ${directory}: it takes ${inMib(wanted)} MiB and ${inMib(Math.max(0, free))} are free`;
  throw new FairleadError(
    'LIMIT_EXCEEDED',
    `${message} of what is not promised to other VMs; the host's owner can set ramDir to another place`,
    {
      details: { vm, wantedBytes: wanted, freeBytes: free },
    },
  );
}

/** What running guests are promised is reserved in the pool; what sleeping ones are is not. */
async function freeInPool(pageBytes: number, promised: number): Promise<number> {
  const pool = `/sys/kernel/mm/hugepages/hugepages-${pageBytes / 1024}kB`;
  const count = async (name: string): Promise<number> => Number(await readFile(join(pool, name), 'utf8'));
  const [free, reserved] = await Promise.all([count('free_hugepages'), count('resv_hugepages')]);
  return free * pageBytes - Math.max(reserved * pageBytes, promised);
}

/** What the files there may still come to take. */
async function promisedIn(directory: string): Promise<number> {
  const names = await readdir(directory);
  const sizes = await Promise.all(
    names.map(async (name) => {
      // One may go meanwhile.
      const is = await lstat(join(directory, name)).catch(() => undefined);
      return is?.isFile() === true ? Math.max(0, is.size - is.blocks * STAT_BLOCK) : 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function identify(path: string): Promise<RamFileIdentity> {
  const { ino, size, birthtimeNs } = await stat(path, { bigint: true });
  return { path, bytes: Number(size), inode: String(ino), madeNs: String(birthtimeNs) };
}

function inMib(bytes: number): number {
  return Math.floor(bytes / MIB);
}
