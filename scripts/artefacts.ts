/**
 * Builds and fetches what lies in the cache: `node scripts/artefacts.ts demo|test`. Called by the set-up.
 *
 * A line on standard error for each step that does something, the error's message and exit code 1 for one that fails.
 */
import { buildImage } from '../cli/image/build-image.ts';
import { fetchQemu10, fetchVhostDeviceVsock } from '../cli/image/tools.ts';
import { toFairleadError } from '../shared/errors.ts';
import { buildRigRoot } from './rig/root-image.ts';

const onProgress = (step: string): boolean => process.stderr.write(`setup: ${step}\n`);

try {
  await Promise.all([buildImage({ onProgress }), fetchVhostDeviceVsock({ onProgress })]);
  if (process.argv[2] === 'test') await Promise.all([fetchQemu10({ onProgress }), buildRigRoot({ onProgress })]);
} catch (error) {
  process.stderr.write(`setup: ${toFairleadError(error).message}\n`);
  process.exitCode = 1;
}
