/**
 * Where built and fetched things are kept, and how they get there whole.
 *
 *     <cache>/<name>/<key>/      one immutable version of a thing
 *     <cache>/<name>/current     symbolic link to the version in use
 *
 * A version is filled in a folder of a unique name and renamed into place, so that a half-built one is never seen, two builders at once
 * do not disturb each other (the first to finish wins, the other's work is dropped), and a killed builder leaves only a `.new-` folder
 * that a later one sweeps away.
 *
 * The folder is `.cache` in a working copy, `$XDG_CACHE_HOME/fairlead` (by default `~/.cache/fairlead`) for an installed package, and
 * `$FAIRLEAD_CACHE_DIR` wherever that is set.
 */
import { existsSync, realpathSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat, symlink } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';

/** The program and its files that make up one unpacked QEMU. */
export interface QemuInstallation {
  readonly binary: string;
  /** Put before all other arguments: where the firmware and the option ROMs are. */
  readonly args: readonly string[];
  /** Added to the environment of the process. */
  readonly env: Readonly<Record<string, string>>;
}

/** What is there to use. A part that has not been built or fetched is undefined. */
export interface Artefacts {
  /** Compressed kernel of the guest image (bzImage). */
  readonly kernel: string | undefined;
  /** The same kernel uncompressed: QEMU starts it through PVH, which is faster. */
  readonly vmlinux: string | undefined;
  readonly initrd: string | undefined;
  /** The image's manifest, `image.json`. */
  readonly manifest: string | undefined;
  readonly vhostDeviceVsock: string | undefined;
  /** A QEMU 10 beside the installed one, for the test rig. */
  readonly qemu10: QemuInstallation | undefined;
  /** Root file system and start-up image of the test rig. */
  readonly rigRoot: string | undefined;
  readonly rigInitrd: string | undefined;
  /** An arm64 guest and the QEMU that runs it, for the tests. */
  readonly arm64: Arm64Guest | undefined;
}

export interface Arm64Guest {
  readonly qemu: string;
  readonly kernel: string;
  readonly initrd: string;
}

/** The folder that holds package.json: found by walking up, so that it holds for the sources and for a build in `dist/`. */
export const PROJECT_ROOT = findProjectRoot(import.meta.dirname);

export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env['FAIRLEAD_CACHE_DIR']) return env['FAIRLEAD_CACHE_DIR'];
  const installed = PROJECT_ROOT.split('/').includes('node_modules');
  return installed ? join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'fairlead') : join(PROJECT_ROOT, '.cache');
}

export function artefacts(cacheDir = cacheDirectory()): Artefacts {
  const image = currentVersion(cacheDir, 'image');
  const rig = currentVersion(cacheDir, 'rig');
  return {
    kernel: existing(image, 'vmlinuz'),
    vmlinux: existing(image, 'vmlinux'),
    initrd: existing(image, 'initrd.gz'),
    manifest: existing(image, 'image.json'),
    vhostDeviceVsock:
      existing(currentVersion(cacheDir, 'vhost-device-vsock'), 'vhost-device-vsock') ?? findOnPath('vhost-device-vsock'),
    qemu10: qemuInstallation(currentVersion(cacheDir, 'qemu10')),
    rigRoot: existing(rig, 'root.img'),
    rigInitrd: existing(rig, 'initrd.gz'),
    arm64: arm64Guest(currentVersion(cacheDir, 'arm64')),
  };
}

function arm64Guest(directory: string | undefined): Arm64Guest | undefined {
  const qemu = existing(directory, 'qemu-system-aarch64');
  const kernel = existing(directory, 'vmlinuz');
  const initrd = existing(directory, 'initrd.gz');
  return qemu === undefined || kernel === undefined || initrd === undefined ? undefined : { qemu, kernel, initrd };
}

export interface PublishOptions {
  readonly cacheDir: string;
  readonly name: string;
  readonly key: string;
  /** Fills the empty folder that it is given. When it rejects, nothing is kept. */
  readonly fill: (directory: string) => Promise<void>;
}

const FOLDER_MODE = 0o755;

/** Makes sure that a version exists and is the current one; gives its folder. */
export async function publish({ cacheDir, name, key, fill }: PublishOptions): Promise<string> {
  const shelf = join(cacheDir, name);
  const target = join(shelf, key);
  await mkdir(shelf, { recursive: true });
  if (!existsSync(target)) {
    const scratch = await mkdtemp(join(shelf, '.new-'));
    try {
      await chmod(scratch, FOLDER_MODE); // mkdtemp makes it private, but others may run what is cached
      await fill(scratch);
      await renameUnlessThere(scratch, target);
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }
  await makeCurrent(shelf, key);
  await sweep(shelf, key);
  return target;
}

/** The current version's folder, or undefined. */
export function currentVersion(cacheDir: string, name: string): string | undefined {
  try {
    return realpathSync(join(cacheDir, name, 'current'));
  } catch {
    return undefined; // never published
  }
}

/** The full path of a program on PATH or in the folders of system tools, or undefined. */
export function findOnPath(program: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path));
}

/** Versions and leftovers that nothing has touched for this long go; a younger one may still be in use by another run. */
const KEEP_OTHERS_MS = 24 * 60 * 60 * 1000;

async function sweep(shelf: string, currentKey: string): Promise<void> {
  for (const entry of await readdir(shelf)) {
    if (entry === 'current' || entry === currentKey) continue;
    const path = join(shelf, entry);
    const touchedMs = await stat(path).then(
      (found) => found.mtimeMs,
      () => Date.now(), // another run swept it first
    );
    if (Date.now() - touchedMs > KEEP_OTHERS_MS) await rm(path, { recursive: true, force: true });
  }
}

async function makeCurrent(shelf: string, key: string): Promise<void> {
  const link = join(await mkdtemp(join(shelf, '.new-')), 'current');
  try {
    await symlink(key, link);
    await rename(link, join(shelf, 'current'));
  } finally {
    await rm(dirname(link), { recursive: true, force: true });
  }
}

async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!existsSync(to)) throw error; // else another run published the same version first
  }
}

/** Debian's layout of an unpacked QEMU: firmware in two folders, modules beside the libraries. */
function qemuInstallation(root: string | undefined): QemuInstallation | undefined {
  const binary = existing(root, 'usr/bin/qemu-system-x86_64');
  if (root === undefined || binary === undefined) return undefined;
  const libraries = join(root, 'usr/lib/x86_64-linux-gnu');
  return {
    binary,
    args: ['-L', join(root, 'usr/share/seabios'), '-L', join(root, 'usr/share/qemu')],
    env: { LD_LIBRARY_PATH: libraries, QEMU_MODULE_DIR: join(libraries, 'qemu') },
  };
}

function existing(folder: string | undefined, name: string): string | undefined {
  if (folder === undefined) return undefined;
  const path = join(folder, name);
  return existsSync(path) ? path : undefined;
}

function findProjectRoot(from: string): string {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
  }
  return from;
}
