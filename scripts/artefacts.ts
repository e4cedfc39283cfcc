/**
 * Builds and fetches what lies in the cache: `node scripts/artefacts.ts demo|test`. Called by the set-up.
 *
 * A line on standard error for each step that does something, the error's message and exit code 1 for one that fails.
 */
import { buildImage } from '../cli/image/build-image.ts';
import { fetchQemu10, fetchVhostDeviceVsock } from '../cli/image/tools.ts';
import { toFairleadError } from '../shared/errors.ts';
import { buildArm64Guest } from './arm64/arm64-guest.ts';
import { fetchOvmf } from './ovmf.ts';
import { buildRigRoot } from './rig/root-image.ts';
import { buildVmforkGuest } from './vmfork/vmfork-guest.ts';

const onProgress = (step: string): boolean => process.stderr.write(`setup: ${step}\n`);

await together(buildImage({ onProgress }), fetchVhostDeviceVsock({ onProgress }));
if (process.argv[2] === 'test' && process.exitCode === undefined) {
  const optional = [buildArm64Guest({ onProgress }), fetchOvmf({ onProgress }), buildVmforkGuest({ onProgress })].map(ifPossible);
  await together(fetchQemu10({ onProgress }), buildRigRoot({ onProgress }), ...optional);
}

/** The tests that need it are skipped where it cannot be had. */
async function ifPossible(task: Promise<unknown>): Promise<void> {
  await task.catch((error: unknown) => process.stderr.write(`setup: warning: ${toFairleadError(error).message}\n`));
}

/** Waits for all of them, also after a failure, so that its message is the last thing said; the same failure is said once. */
async function together(...tasks: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(tasks);
  const failures = results.filter((result) => result.status === 'rejected');
  if (failures.length > 0) process.exitCode = 1;
  const messages = new Set(failures.map(({ reason }) => toFairleadError(reason).message));
  for (const message of messages) process.stderr.write(`setup: ${message}\n`);
}
