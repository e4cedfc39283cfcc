/**
 * Symptom: `npm run demo` and `npm test` failed on a fresh machine: "Release file for …/forky/InRelease is expired (invalid since 17d …)".
 * Cause: a mirror had stood still for weeks. Lists of a suite that moves say themselves that they are good for a week.
 */
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { resolveMetapackage } from '../../cli/image/debian.ts';
import { shortDirectory } from '../support/vsock-guest.ts';

/** An apt whose mirror stands still, and which has one package. */
const APT_GET = `#!/bin/sh
case "$*" in *Check-Valid-Until=false*) exit 0 ;; esac
echo 'E: Release file for http://debian.example/dists/forky/InRelease is expired (invalid since 17d 6h). Updates will not be applied.' >&2
exit 100
`;
const APT_CACHE = `#!/bin/sh
printf 'Package: linux-image\\nVersion: 1\\nDepends: linux-image-6.1 (= 1)\\n'
`;

afterEach(() => vi.unstubAllEnvs());

test('lists that have expired are taken, with a warning', async () => {
  await using directory = await shortDirectory();
  for (const [name, text] of Object.entries({ 'apt-get': APT_GET, 'apt-cache': APT_CACHE })) {
    await writeFile(join(directory.path, name), text);
    await chmod(join(directory.path, name), 0o755);
  }
  vi.stubEnv('PATH', `${directory.path}:${process.env['PATH']}`);
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const options = { cacheDir: join(directory.path, 'cache'), suite: 'forky', name: 'linux-image', prefix: 'linux-image-' };
  expect(await resolveMetapackage(options)).toBe('linux-image-6.1');
  expect(warn).toHaveBeenCalledExactlyOnceWith(expect.stringContaining('is expired'));
});
