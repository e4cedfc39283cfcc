/**
 * A guest that hears of its generation id (vmgenid), for the tests: the kernel of Debian 12 has no driver for it, so this one has Debian 13's,
 * with all that it needs built in, and an initramfs of busybox. 40 MB are fetched, and nothing is installed.
 */
import { createHash } from 'node:crypto';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { cacheDirectory, currentVersion, publish } from '../../cli/image/cache.ts';
import { type CpioEntry, writeCpio } from '../../cli/image/cpio.ts';
import { fetchPackages, resolveMetapackage } from '../../cli/image/debian.ts';
import { busyboxEntries, GUEST_SUITE } from '../../cli/image/image-parts.ts';
import type { ToolOptions } from '../../cli/image/tools.ts';
import { FairleadError } from '../../shared/errors.ts';

const KERNEL_SUITE = 'trixie';
const KERNEL_PREFIX = 'linux-image-';
const INIT = join(import.meta.dirname, 'files/init');

/** Makes sure that the guest is in the cache. */
export async function buildVmforkGuest(options: ToolOptions = {}): Promise<void> {
  const { cacheDir = cacheDirectory(), onProgress, signal } = options;
  if (arch() !== 'x64')
    throw new FairleadError('UNSUPPORTED', `this guest of the tests is made for x86-64 machines, and this is ${arch()}`);
  const inputs = createHash('sha256')
    .update(await readFile(import.meta.filename))
    .update(await readFile(INIT));
  const key = inputs.digest('hex').slice(0, 16);
  if (currentVersion(cacheDir, 'vmfork')?.endsWith(key) === true) return;

  onProgress?.("fetching Debian 13's kernel for a guest of the tests");
  const newer = { cacheDir, suite: KERNEL_SUITE, architecture: undefined, signal };
  const name = await resolveMetapackage({ ...newer, name: 'linux-image-cloud-amd64', prefix: KERNEL_PREFIX });
  const [kernel] = await fetchPackages({ ...newer, names: [name] });
  const [busybox] = await fetchPackages({ cacheDir, suite: GUEST_SUITE, names: ['busybox-static'], signal });
  const entries: CpioEntry[] = [
    ...(await busyboxEntries(join(busybox?.directory ?? '', 'bin/busybox'), signal)),
    { kind: 'file', path: 'init', content: await readFile(INIT), executable: true },
    ...['dev', 'proc'].map((path): CpioEntry => ({ kind: 'directory', path })),
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
  ];
  const image = join(kernel?.directory ?? '', 'boot', `vmlinuz-${name.slice(KERNEL_PREFIX.length)}`);
  const fill = async (directory: string): Promise<void> => {
    await copyFile(image, join(directory, 'vmlinuz'));
    await writeFile(join(directory, 'initrd.gz'), gzipSync(writeCpio(entries)));
  };
  await publish({ cacheDir, name: 'vmfork', key, fill });
}
