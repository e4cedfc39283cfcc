/** Parts that every image is put together from: busybox with its applets, kernel modules in load order, programs with their libraries. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import { runCommand } from './command.ts';
import type { CpioEntry } from './cpio.ts';
import { type DebianPackage, fetchPackages, resolveMetapackage } from './debian.ts';
import { interpreter, libraryClosure } from './elf.ts';
import { kernelModules } from './kernel-modules.ts';

/** The suite that guests are made of, whatever this machine runs. */
export const GUEST_SUITE = 'bookworm';
const KERNEL_PREFIX = 'linux-image-';
const LIBRARY_FOLDERS = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'];

export interface GuestParts {
  /** All packages, the kernel's first. */
  readonly packages: readonly DebianPackage[];
  readonly kernelVersion: string;
  readonly kernelFile: string;
  readonly modulesDir: string;
  /** Root folder of one of the packages. */
  readonly directoryOf: (name: string) => string;
}

/** Debian's cloud kernel and the named packages, unpacked in the cache. `architecture` is Debian's name of it. */
export async function fetchGuestParts(options: {
  cacheDir: string;
  architecture?: string;
  names: readonly string[];
  signal?: AbortSignal | undefined;
}): Promise<GuestParts> {
  const { cacheDir, architecture, names, signal } = options;
  const suite = { cacheDir, suite: GUEST_SUITE, architecture, signal };
  const metapackage = `linux-image-cloud-${architecture ?? 'amd64'}`;
  const kernel = await resolveMetapackage({ ...suite, name: metapackage, prefix: KERNEL_PREFIX });
  const packages = await fetchPackages({ ...suite, names: [kernel, ...names] });
  const directories = new Map(packages.map(({ name, directory }) => [name, directory]));
  const directoryOf = (name: string): string => {
    const directory = directories.get(name);
    if (directory === undefined) throw new FairleadError('INTERNAL', `the package ${name} was not among those fetched`);
    return directory;
  };
  const kernelVersion = kernel.slice(KERNEL_PREFIX.length);
  const kernelFile = join(directoryOf(kernel), 'boot', `vmlinuz-${kernelVersion}`);
  return {
    packages,
    kernelVersion,
    kernelFile,
    modulesDir: join(directoryOf(kernel), 'lib/modules', kernelVersion),
    directoryOf,
  };
}

export async function busyboxEntries(binary: string, signal: AbortSignal | undefined): Promise<CpioEntry[]> {
  const applets = (await runCommand(binary, ['--list'], { signal }))
    .split('\n')
    .filter((name) => name !== '' && name !== 'busybox');
  return [
    { kind: 'file', path: 'bin/busybox', content: readFileSync(binary), executable: true },
    ...applets.map((name): CpioEntry => ({ kind: 'link', path: `bin/${name}`, target: 'busybox' })),
  ];
}

/** The modules in `lib/modules/`, and `etc/modules` with their names in load order, one a line. */
export function moduleEntries(modulesDir: string, wanted: readonly string[]): CpioEntry[] {
  const modules = kernelModules(modulesDir, wanted);
  return [
    ...modules.map(
      ({ name, path }): CpioEntry => ({ kind: 'file', path: `lib/modules/${name}.ko`, content: readFileSync(path) }),
    ),
    { kind: 'file', path: 'etc/modules', content: Buffer.from(modules.map(({ name }) => `${name}.ko\n`).join('')) },
  ];
}

/**
 * Dynamically linked programs (path in the image to file) with their loader and libraries, each once, all taken from the packages, never
 * from this machine.
 */
export function programEntries(programs: Readonly<Record<string, string>>, packages: readonly DebianPackage[]): CpioEntry[] {
  const folders = packages.flatMap(({ directory }) => LIBRARY_FOLDERS.map((folder) => join(directory, folder)));
  const contents = Object.entries(programs).map(([path, binary]) => ({ path, content: readFileSync(binary) }));
  const loader = contents.map(({ content }) => interpreter(content)?.replace(/^\//, '')).find((path) => path !== undefined);
  const libraries = [...libraryClosure(Object.values(programs), folders)].map(([name, file]): CpioEntry => {
    const isLoader = loader?.endsWith(`/${name}`) === true;
    return {
      kind: 'file',
      path: isLoader ? loader : `lib/x86_64-linux-gnu/${name}`,
      content: readFileSync(file),
      executable: true,
    };
  });
  return [...contents.map((program): CpioEntry => ({ kind: 'file', executable: true, ...program })), ...libraries];
}
