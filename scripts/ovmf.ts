/** OVMF, the UEFI firmware of q35 guests, for the tests: Debian's package of it, unpacked and not installed. 8 MB are fetched. */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory, currentVersion, publish } from '../cli/image/cache.ts';
import { fetchPackages } from '../cli/image/debian.ts';
import { GUEST_SUITE } from '../cli/image/image-parts.ts';
import type { ToolOptions } from '../cli/image/tools.ts';

/** The code, and variables that nothing has been written to. */
const FILES = { 'code.fd': 'OVMF_CODE_4M.fd', 'vars.fd': 'OVMF_VARS_4M.fd' };

/** Makes sure that it is in the cache. */
export async function fetchOvmf(options: ToolOptions = {}): Promise<void> {
  const { cacheDir = cacheDirectory(), onProgress, signal } = options;
  if (currentVersion(cacheDir, 'ovmf') !== undefined) return;
  onProgress?.('fetching UEFI firmware from the Debian archive');
  for (const { version, directory } of await fetchPackages({ cacheDir, suite: GUEST_SUITE, names: ['ovmf'], signal })) {
    const fill = async (folder: string): Promise<void> => {
      for (const [name, file] of Object.entries(FILES))
        await copyFile(join(directory, 'usr/share/OVMF', file), join(folder, name));
    };
    await publish({ cacheDir, name: 'ovmf', key: version, fill });
  }
}
