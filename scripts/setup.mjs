#!/usr/bin/env node
/**
 * Makes a fresh clone able to run: `node scripts/setup.mjs [check|native|demo|test]`.
 *
 * Plain JavaScript for the Node that a machine has (20 or later), without any library, since it runs before there is one. Every step
 * looks first whether it has anything to do, so that a second run takes less than a second and prints nothing; a step that does
 * something says so in one line on standard error. What cannot be had ends the run with one sentence and exit code 1.
 *
 * What package.json runs afterwards it runs by `env node`: the shell remembers where it found `node` for the set-up itself, and would
 * run the old one again even though the pinned one now comes first on PATH.
 *
 *     check   npm libraries, pinned Node, `fairlead` link, native add-on where a compiler is there
 *     native  the same
 *     demo    check, and QEMU, a compiler, the guest image, the vsock daemon
 *     test    demo, and QEMU 10, the root image of the test rig, and where they can be had an arm64 guest and UEFI firmware
 */
import { buildArtefacts } from './setup/artefacts.mjs';
import { installLibraries } from './setup/libraries.mjs';
import { holdSetupLock } from './setup/lock.mjs';
import { buildNativeAddon } from './setup/native-addon.mjs';
import { installPrograms } from './setup/programs.mjs';
import { SetupError } from './setup/step.mjs';

const STEPS = {
  check: [installLibraries, buildNativeAddon],
  native: [installLibraries, buildNativeAddon],
  demo: [installLibraries, () => installPrograms('demo'), buildNativeAddon, () => buildArtefacts('demo')],
  test: [installLibraries, () => installPrograms('test'), buildNativeAddon, () => buildArtefacts('test')],
};

const mode = process.argv[2] ?? 'check';
if (!Object.hasOwn(STEPS, mode)) {
  process.stderr.write(`setup: unknown mode ${mode}: one of ${Object.keys(STEPS).join(', ')}\n`);
  process.exit(2);
}

const release = await holdSetupLock();
try {
  for (const step of STEPS[mode]) await step();
} catch (error) {
  // A SetupError is a sentence for the person at the terminal; anything else is a fault in the set-up itself and shows its stack.
  process.stderr.write(`setup: ${error instanceof SetupError ? error.message : error.stack}\n`);
  process.exitCode = 1;
} finally {
  release();
}
