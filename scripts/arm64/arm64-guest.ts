/**
 * What it takes to boot an arm64 guest on an x86-64 machine, for the tests: QEMU for arm64 from the same release as the machine's own QEMU,
 * whose libraries it shares, UEFI firmware, Debian's arm64 kernel, and an initramfs of busybox. 38 MB are fetched, and nothing is installed.
 */
import { createHash } from 'node:crypto';
import { copyFile, readFile, symlink, writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { cacheDirectory, currentVersion, publish } from '../../cli/image/cache.ts';
import { type CpioEntry, writeCpio } from '../../cli/image/cpio.ts';
import { fetchPackages } from '../../cli/image/debian.ts';
import { fetchGuestParts, GUEST_SUITE, moduleEntries } from '../../cli/image/image-parts.ts';
import type { ToolOptions } from '../../cli/image/tools.ts';
import { FairleadError } from '../../shared/errors.ts';

const INIT = join(import.meta.dirname, 'files/init');
const MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_balloon',
  'virtio_rng',
  'virtio_scsi',
  'virtio_console',
  'virtio_mem',
];
/** Those that the init script uses: busybox of another architecture cannot be asked for its own list here. */
const APPLETS = ['sh', 'mount', 'insmod', 'echo', 'basename', 'readlink', 'grep', 'uname', 'sleep', 'reboot'];

/** Makes sure that the guest is in the cache. */
export async function buildArm64Guest(options: ToolOptions = {}): Promise<void> {
  const { cacheDir = cacheDirectory(), onProgress, signal } = options;
  if (arch() !== 'x64')
    throw new FairleadError('UNSUPPORTED', `the arm64 guest of the tests is made for x86-64 machines, and this is ${arch()}`);
  const inputs = createHash('sha256')
    .update(await readFile(import.meta.filename))
    .update(await readFile(INIT));
  const key = inputs.digest('hex').slice(0, 16);
  if (currentVersion(cacheDir, 'arm64')?.endsWith(key) === true) return;

  onProgress?.('fetching an arm64 QEMU and guest from the Debian archive');
  const [parts, [qemu, firmware]] = await Promise.all([
    fetchGuestParts({ cacheDir, architecture: 'arm64', names: ['busybox-static'], signal }),
    fetchPackages({ cacheDir, suite: GUEST_SUITE, names: ['qemu-system-arm', 'qemu-efi-aarch64'], signal }),
  ]);
  const busybox = await readFile(join(parts.directoryOf('busybox-static'), 'bin/busybox'));
  const entries: CpioEntry[] = [
    { kind: 'file', path: 'bin/busybox', content: busybox, executable: true },
    ...APPLETS.map((name): CpioEntry => ({ kind: 'link', path: `bin/${name}`, target: 'busybox' })),
    ...moduleEntries(parts.modulesDir, MODULES),
    { kind: 'file', path: 'init', content: await readFile(INIT), executable: true },
    ...['dev', 'proc', 'sys'].map((path): CpioEntry => ({ kind: 'directory', path })),
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
  ];
  const fill = async (directory: string): Promise<void> => {
    await Promise.all([
      copyFile(join(qemu?.directory ?? '', 'usr/bin/qemu-system-aarch64'), join(directory, 'qemu-system-aarch64')),
      copyFile(parts.kernelFile, join(directory, 'vmlinuz')),
      writeFile(join(directory, 'initrd.gz'), gzipSync(writeCpio(entries))),
      // Filled up to 64 MiB each, so they stay where they were unpacked.
      symlink(join(firmware?.directory ?? '', 'usr/share/AAVMF/AAVMF_CODE.fd'), join(directory, 'code.fd')),
      symlink(join(firmware?.directory ?? '', 'usr/share/AAVMF/AAVMF_VARS.fd'), join(directory, 'vars.fd')),
    ]);
  };
  await publish({ cacheDir, name: 'arm64', key, fill });
}
