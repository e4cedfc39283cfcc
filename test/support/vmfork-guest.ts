/** A guest whose kernel has a driver for vmgenid (scripts/vmfork). */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory, currentVersion } from '../../cli/image/cache.ts';

export interface VmforkGuest {
  readonly kernel: string;
  readonly initrd: string;
}

/** Printed when its first process runs. */
export const GUEST_RUNS = 'GUEST RUNS';

/** Undefined where it has not been fetched: `node scripts/setup.mjs test`. */
export function vmforkGuest(): VmforkGuest | undefined {
  const directory = currentVersion(cacheDirectory(), 'vmfork');
  if (directory === undefined) return undefined;
  const [kernel, initrd] = [join(directory, 'vmlinuz'), join(directory, 'initrd.gz')];
  return existsSync(kernel) && existsSync(initrd) ? { kernel, initrd } : undefined;
}
