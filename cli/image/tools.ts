/**
 * Fetches the host-side programs that Fairlead can use without installing them: the vhost-user vsock daemon, for hosts without
 * `/dev/vhost-vsock`, and a QEMU 10 for the test rig, whose emulator runs nested KVM where the one of Debian 12 fails.
 *
 * Both come from other Debian suites and need only libraries that Debian 12 has (with its QEMU installed, in QEMU's case).
 */
import { copyFile, cp } from 'node:fs/promises';
import { join } from 'node:path';
import { artefacts, cacheDirectory, publish } from './cache.ts';
import { fetchPackages } from './debian.ts';

export interface ToolOptions {
  readonly cacheDir?: string | undefined;
  readonly onProgress?: ((step: string) => unknown) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const VSOCK_DAEMON = { suite: 'forky', name: 'vhost-device-vsock' } as const;
const QEMU10 = {
  suite: 'bookworm-backports',
  names: ['qemu-system-x86', 'qemu-system-common', 'qemu-system-data', 'seabios'],
} as const;

/** Makes sure that `vhost-device-vsock` is there. */
export async function fetchVhostDeviceVsock(options: ToolOptions = {}): Promise<void> {
  const { cacheDir = cacheDirectory(), onProgress, signal } = options;
  if (artefacts(cacheDir).vhostDeviceVsock !== undefined) return;
  onProgress?.('fetching vhost-device-vsock from the Debian archive');
  const { suite, name } = VSOCK_DAEMON;
  for (const { version, directory } of await fetchPackages({ cacheDir, suite, names: [name], signal })) {
    const program = join(directory, 'usr/bin', name);
    await publish({
      cacheDir,
      name,
      key: version.replaceAll(':', '%3a'),
      fill: (folder) => copyFile(program, join(folder, name)),
    });
  }
}

/** Makes sure that a QEMU 10 is there. */
export async function fetchQemu10(options: ToolOptions = {}): Promise<void> {
  const { cacheDir = cacheDirectory(), onProgress, signal } = options;
  if (artefacts(cacheDir).qemu10 !== undefined) return;
  onProgress?.('fetching QEMU 10 from the Debian archive');
  const { suite, names } = QEMU10;
  const packages = await fetchPackages({ cacheDir, suite, names, signal });
  const key = (packages[0]?.version ?? 'unknown').replaceAll(/[^\w.+-]/g, '_');
  const fill = async (folder: string): Promise<void> => {
    for (const { directory } of packages) await cp(directory, folder, { recursive: true, verbatimSymlinks: true });
  };
  await publish({ cacheDir, name: 'qemu10', key, fill });
}
