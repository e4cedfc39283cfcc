/**
 * Builds the rig's root: a read-only ext4 image with all that a host needs to run Fairlead (Node, QEMU, kernel modules, the demo guest),
 * and the initramfs that mounts it. Nothing of the project itself: that is a second disk, made for each run.
 *
 * Programs come from this machine with the libraries that they name; the kernel and busybox are the guest image's.
 */
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { artefacts, cacheDirectory, currentVersion, findOnPath, publish } from '../../cli/image/cache.ts';
import { runCommand } from '../../cli/image/command.ts';
import { writeCpio } from '../../cli/image/cpio.ts';
import { interpreter, libraryClosure } from '../../cli/image/elf.ts';
import { busyboxEntries, fetchGuestParts, moduleEntries } from '../../cli/image/image-parts.ts';
import { kernelModules } from '../../cli/image/kernel-modules.ts';
import type { ToolOptions } from '../../cli/image/tools.ts';

const FILES = join(import.meta.dirname, 'files');
const LIBRARIES = ['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/usr/lib', '/lib'];
const QEMU_MODULES = '/usr/lib/x86_64-linux-gnu/qemu';
const START_MODULES = ['virtio_pci', 'virtio_blk'];
/** `init` loads the first two, or the first only; the others are for a test to load by name: `load network`. */
const MODULES = {
  light: ['virtio_net', 'vsock_loopback', 'virtio_rng'],
  host: ['kvm-amd', 'vhost_vsock'],
  network: ['vhost_net', 'tun', 'bridge'],
  passthrough: ['vfio-pci', 'vfio_iommu_type1'],
  filesystems: ['loop', 'btrfs'],
} as const;
/** What a host uses besides QEMU, where this machine has it. */
const OPTIONAL_PROGRAMS = ['qemu-img'];
/** Programs that this machine need not have, with where they go: before busybox on the path, which has an `ip` of its own. */
const PACKAGED_PROGRAMS = {
  'btrfs-progs': { file: 'sbin/mkfs.btrfs', to: 'usr/sbin/mkfs.btrfs' },
  iproute2: { file: 'bin/ip', to: 'usr/sbin/ip' },
} as const;
/** Libraries of theirs that neither QEMU nor the system itself brings. */
const PACKAGED_LIBRARIES = ['libbpf1', 'libelf1', 'libmnl0', 'libbsd0', 'libmd0', 'libcap2'];
/** ext4 wants room for its own tables; the file is sparse. */
const FREE_BYTES = 128 * 1024 * 1024;

/** Needs the guest image, QEMU and mke2fs to be there. */
export async function buildRigRoot(options: ToolOptions = {}): Promise<void> {
  const { cacheDir = cacheDirectory(), onProgress, signal } = options;
  const qemu = findOnPath('qemu-system-x86_64');
  const image = currentVersion(cacheDir, 'image');
  if (qemu === undefined || image === undefined) throw new Error('the rig needs an installed QEMU and the guest image');
  const key = hashOf([image, process.version, await runCommand(qemu, ['--version']), ...sources()]);
  if (currentVersion(cacheDir, 'rig')?.endsWith(key) === true) return;

  onProgress?.('building the root image of the test rig');
  const names = ['busybox-static', ...Object.keys(PACKAGED_PROGRAMS), ...PACKAGED_LIBRARIES];
  const { modulesDir, directoryOf } = await fetchGuestParts({ cacheDir, names, signal });
  const busybox = join(directoryOf('busybox-static'), 'bin/busybox');
  const fill = async (directory: string): Promise<void> => {
    const initrd = writeCpio([
      ...(await busyboxEntries(busybox, signal)),
      ...moduleEntries(modulesDir, START_MODULES),
      { kind: 'file', path: 'init', content: readFileSync(join(FILES, 'initrd-init')), executable: true },
      { kind: 'directory', path: 'root' },
      { kind: 'directory', path: 'dev' },
      { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
    ]);
    writeFileSync(join(directory, 'initrd.gz'), gzipSync(initrd));
    const root = await mkdtemp(join(directory, 'root-'));
    try {
      for (const folder of ['dev', 'proc', 'sys', 'tmp', 'run', 'fairlead', 'bin', 'usr/bin', 'etc', 'lib/modules', 'cache']) {
        mkdirSync(join(root, folder), { recursive: true });
      }
      await addBusybox(root, busybox);
      addModules(root, modulesDir);
      const others = OPTIONAL_PROGRAMS.map(findOnPath).filter((path) => path !== undefined);
      addPrograms(root, [process.execPath, qemu, ...others]);
      const folders = PACKAGED_LIBRARIES.flatMap((name) => LIBRARIES.map((folder) => join(directoryOf(name), folder)));
      for (const [name, { file, to }] of Object.entries(PACKAGED_PROGRAMS)) {
        addPackaged(root, join(directoryOf(name), file), to, folders);
      }
      addQemuData(root);
      addCache(root, image, cacheDir);
      addSystemFiles(root);
      await makeExt4(root, join(directory, 'root.img'), signal);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  };
  await publish({ cacheDir, name: 'rig', key, fill });
}

/** Makes a sparse ext4 image of a folder's content: no root, no mount. */
export async function makeExt4(folder: string, file: string, signal?: AbortSignal): Promise<void> {
  const bytes = Number((await runCommand('du', ['-s', '-B1', '--apparent-size', folder], { signal })).split('\t')[0]);
  const mebibytes = Math.ceil((bytes * 1.1 + FREE_BYTES) / 2 ** 20);
  const mke2fs = findOnPath('mke2fs') ?? 'mke2fs';
  await runCommand(mke2fs, ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', folder, file, `${mebibytes}M`], {
    signal,
  });
}

async function addBusybox(root: string, busybox: string): Promise<void> {
  install(busybox, join(root, 'bin/busybox'));
  for (const applet of (await runCommand(busybox, ['--list'])).split('\n')) {
    if (applet !== '' && applet !== 'busybox') symlinkSync('busybox', join(root, 'bin', applet));
  }
  symlinkSync('/bin/busybox', join(root, 'usr/bin/env'));
}

function addModules(root: string, modulesDir: string): void {
  // The start-up image has loaded its own already; a module of several lists is in the first.
  const listed = new Set(kernelModules(modulesDir, START_MODULES).map(({ name }) => name));
  for (const [list, wanted] of Object.entries(MODULES)) {
    const modules = kernelModules(modulesDir, wanted).filter(({ name }) => !listed.has(name));
    for (const { name, path } of modules) {
      install(path, join(root, 'lib/modules', `${name}.ko`));
      listed.add(name);
    }
    writeFileSync(join(root, `etc/modules.${list}`), modules.map(({ name }) => `${name}.ko\n`).join(''));
  }
}

/** Programs at the same path as here, so that QEMU finds its data; Node as `/bin/node`, wherever it is here. */
function addPrograms(root: string, programs: readonly string[]): void {
  for (const program of programs) {
    install(program, join(root, program === process.execPath ? 'bin/node' : program));
    const loader = interpreter(readFileSync(program));
    if (loader !== undefined) install(loader, join(root, loader));
  }
  const accelerators = readdirSync(QEMU_MODULES)
    .filter((name) => name.startsWith('accel-'))
    .map((name) => join(QEMU_MODULES, name));
  for (const path of accelerators) install(path, join(root, path));
  for (const [name, path] of libraryClosure([...programs, ...accelerators], LIBRARIES)) {
    install(path, join(root, 'lib/x86_64-linux-gnu', name));
  }
}

/** A program of a package with its libraries: of this machine where it has them, else of packages. */
function addPackaged(root: string, program: string, to: string, folders: readonly string[]): void {
  install(program, join(root, to));
  for (const [name, path] of libraryClosure([program], [...LIBRARIES, ...folders])) {
    install(path, join(root, 'lib/x86_64-linux-gnu', name));
  }
}

function addQemuData(root: string): void {
  for (const folder of ['/usr/share/qemu', '/usr/share/seabios']) {
    cpSync(folder, join(root, folder), { recursive: true, verbatimSymlinks: true });
  }
}

/** The cache as the project knows it, so that `artefacts()` works inside. */
function addCache(root: string, image: string, cacheDir: string): void {
  const daemon = artefacts(cacheDir).vhostDeviceVsock;
  cpSync(image, join(root, 'cache/image', basename(image)), { recursive: true });
  symlinkSync(basename(image), join(root, 'cache/image/current'));
  if (daemon === undefined) return;
  install(daemon, join(root, 'cache/vhost-device-vsock/1/vhost-device-vsock'));
  symlinkSync('1', join(root, 'cache/vhost-device-vsock/current'));
}

function addSystemFiles(root: string): void {
  install(join(FILES, 'init'), join(root, 'init'));
  install(join(FILES, 'load'), join(root, 'bin/load'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/tmp:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'etc/hosts'), '127.0.0.1 localhost rig\n10.0.2.2 machine\n');
}

function install(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  chmodSync(to, 0o755);
}

function sources(): string[] {
  return [import.meta.filename, ...['init', 'initrd-init', 'load'].map((name) => join(FILES, name))].map((path) =>
    readFileSync(path, 'utf8'),
  );
}

function hashOf(inputs: readonly string[]): string {
  return createHash('sha256').update(inputs.join('\0')).digest('hex').slice(0, 16);
}
