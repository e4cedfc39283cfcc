/**
 * Builds the demo guest: Debian's cloud kernel, and an initramfs of busybox, socat, QEMU's guest agent and
 * the scripts in `guest/`.
 *
 * The result is a folder of the cache with `vmlinuz`, `vmlinux`, `initrd.gz` and the manifest `image.json`. It is built again only when
 * the recipe, the scripts or the builder change, or when `force` asks for newer packages. No root, no mount, no kernel installation.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { FairleadError } from '../../shared/errors.ts';
import { cacheDirectory, currentVersion, PROJECT_ROOT, publish } from './cache.ts';
import { type CpioEntry, writeCpio } from './cpio.ts';
import { busyboxEntries, fetchGuestParts, type GuestParts, moduleEntries, programEntries } from './image-parts.ts';
import { extractVmlinux } from './vmlinux.ts';

export interface BuildOptions {
  readonly cacheDir?: string | undefined;
  /** Build even if nothing changed, with the packages that the archive holds now. */
  readonly force?: boolean | undefined;
  /** One short clause a step. */
  readonly onProgress?: ((step: string) => unknown) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What `image.json` says. Paths are relative to the manifest's folder. */
export interface ImageManifest {
  readonly kernel: string;
  /** Absent where the kernel is packed in a way that the builder does not read. */
  readonly vmlinux?: string;
  readonly initrd: string;
  readonly kernelVersion: string;
  readonly sha256: Readonly<Record<string, string>>;
  /** Debian package to version. */
  readonly builtFrom: Readonly<Record<string, string>>;
  /** Hash of all that the builder was given; equal inputs need no new build. */
  readonly inputs: string;
}

export interface BuiltImage {
  readonly directory: string;
  readonly manifest: ImageManifest;
  /** False when an image of the same inputs was there. */
  readonly built: boolean;
}

/** The programs and every library that they need, directly or not; the build fails by name if the list has a gap. */
const TOOL_PACKAGES = [
  'busybox-static',
  'socat',
  'qemu-guest-agent',
  'libc6',
  'libssl3',
  'libwrap0',
  'libnsl2',
  'libtirpc3',
  'libgssapi-krb5-2',
  'libkrb5-3',
  'libk5crypto3',
  'libkrb5support0',
  'libcom-err2',
  'libkeyutils1',
  'libglib2.0-0',
  'libpcre2-8-0',
  'libnuma1',
  'libudev1',
  'liburing2',
];
/** Drivers of the devices that Fairlead gives a guest, on PCI (q35) and without it (microvm), and of the ACPI power button. */
const GUEST_MODULES = [
  'virtio_pci',
  'virtio_mmio',
  'button',
  'evdev',
  'vmw_vsock_virtio_transport',
  'vsock_loopback',
  'virtio_blk',
  'virtio_net',
  'virtio_balloon',
  'virtio_mem',
  'virtio_rng',
  'virtio_console',
  'pvpanic_pci',
];

export async function buildImage(options: BuildOptions = {}): Promise<BuiltImage> {
  const { cacheDir = cacheDirectory(), force = false, onProgress = () => {}, signal } = options;
  const inputs = hashInputs();
  const current = currentVersion(cacheDir, 'image');
  if (!force && current !== undefined) {
    const manifest = readManifest(current);
    if (manifest?.inputs === inputs) return { directory: current, manifest, built: false };
  }
  if (arch() !== 'x64')
    throw new FairleadError('UNSUPPORTED', `the guest image can be built for x86-64 only, and this machine is ${arch()}`);

  onProgress('fetching the kernel and the tools of the guest from the Debian archive');
  const parts = await fetchGuestParts({ cacheDir, names: TOOL_PACKAGES, signal });
  const versions = parts.packages.map(({ name, version }) => `${name}=${version}`);

  onProgress('packing the guest image');
  const key = createHash('sha256')
    .update([inputs, ...versions].join('\n'))
    .digest('hex')
    .slice(0, 16);
  const fill = (directory: string): Promise<void> => assemble(directory, parts, inputs, signal);
  const directory = await publish({ cacheDir, name: 'image', key, fill });
  const manifest = readManifest(directory);
  if (manifest === undefined)
    throw new FairleadError(
      'INTERNAL',
      `the guest image in ${directory} has no readable manifest: remove the folder and build again`,
    );
  return { directory, manifest, built: true };
}

async function assemble(directory: string, parts: GuestParts, inputs: string, signal: AbortSignal | undefined): Promise<void> {
  const { packages, kernelVersion, directoryOf } = parts;
  const bzImage = readFileSync(parts.kernelFile);
  const vmlinux = extractVmlinux(bzImage);

  const entries: CpioEntry[] = [
    ...moduleEntries(parts.modulesDir, GUEST_MODULES),
    ...(await busyboxEntries(join(directoryOf('busybox-static'), 'bin/busybox'), signal)),
    ...programEntries(
      {
        'bin/socat': join(directoryOf('socat'), 'usr/bin/socat'),
        'bin/qemu-ga': join(directoryOf('qemu-guest-agent'), 'usr/sbin/qemu-ga'),
      },
      packages,
    ),
    ...scriptEntries(),
    ...['dev', 'proc', 'sys', 'tmp'].map((path): CpioEntry => ({ kind: 'directory', path })),
    // Where QEMU's guest agent looks for `shutdown` and `hwclock`.
    { kind: 'link', path: 'sbin', target: 'bin' },
    // The kernel opens it for the first process before anything is mounted.
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
  ];
  const initrd = await promisify(gzip)(writeCpio(entries), { level: 9 });

  const files = { vmlinuz: bzImage, 'initrd.gz': initrd, ...(vmlinux && { vmlinux }) };
  for (const [name, content] of Object.entries(files)) await writeFile(join(directory, name), content);
  const manifest: ImageManifest = {
    kernel: 'vmlinuz',
    ...(vmlinux && { vmlinux: 'vmlinux' }),
    initrd: 'initrd.gz',
    kernelVersion,
    sha256: Object.fromEntries(
      Object.entries(files).map(([name, content]) => [name, createHash('sha256').update(content).digest('hex')]),
    ),
    builtFrom: Object.fromEntries(packages.map(({ name, version }) => [name, version])),
    inputs,
  };
  await writeFile(join(directory, 'image.json'), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** `guest/`, but for its documentation, is the root of the guest. */
function scriptEntries(): CpioEntry[] {
  return guestFiles().map((path) => ({
    kind: 'file',
    path: relative(GUEST_FILES, path),
    content: readFileSync(path),
    executable: true,
  }));
}

const GUEST_FILES = join(PROJECT_ROOT, 'guest');

function guestFiles(): string[] {
  return listFiles(GUEST_FILES).filter((path) => !path.endsWith('.md'));
}

/** The scripts, and the builder's own sources, which hold the recipe. */
function hashInputs(): string {
  const hash = createHash('sha256');
  for (const path of [...guestFiles(), ...listFiles(import.meta.dirname)])
    hash.update(path.slice(PROJECT_ROOT.length)).update(readFileSync(path));
  return hash.digest('hex');
}

function listFiles(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return entries.map((entry) => join(entry.parentPath, entry.name)).sort();
}

function readManifest(directory: string): ImageManifest | undefined {
  const path = join(directory, 'image.json');
  // SAFETY: the builder alone writes the file, into a folder that is published whole; a foreign one differs in `inputs` and is not used.
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ImageManifest) : undefined;
}
