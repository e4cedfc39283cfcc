/** The npm libraries, the pinned Node where the machine's own is too old, and the `fairlead` link for npx. */
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  isNodeCurrent,
  PINNED_NODE_DIR,
  PINNED_NODE_PACKAGE,
  PINNED_NODE_VERSION,
  PROJECT_DIR,
  run,
  SetupError,
  say,
  systemPath,
  tail,
} from './step.mjs';

export async function installLibraries() {
  if (process.platform !== 'linux') throw new SetupError('Fairlead runs on Linux only');
  const pin = needsPinnedNode() ? `${PINNED_NODE_PACKAGE}@${PINNED_NODE_VERSION}` : undefined;
  const pinned = pin === undefined || installedVersion(PINNED_NODE_DIR) === PINNED_NODE_VERSION;
  if (!isTreeAsLocked() || !pinned) {
    say(
      `installing the npm libraries${pinned ? '' : `, and Node ${PINNED_NODE_VERSION} beside this machine's ${process.versions.node}`}`,
    );
    await npmInstall(pin === undefined ? [] : [pin]);
  }
  linkExecutable();
}

/**
 * The locked versions, without a change to the lock file. Not `npm ci`: that refuses a lock file which does not list the optional
 * packages of every other platform, and a registry need not hold those. The pinned Node is named each time, or npm would remove it.
 */
async function npmInstall(extra) {
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error']; // an older Node than the libraries ask for is no news here
  const { ok, output } = await run('npm', ['install', '--no-save', ...quiet, ...extra], { env: { PATH: systemPath() } });
  if (!ok) throw new SetupError(`could not install the libraries from the npm registry; npm says:\n${tail(output)}`);
}

/** Where Node is current but came without its headers, the package serves for those: the add-on cannot be built without. */
function needsPinnedNode() {
  return !isNodeCurrent() || !existsSync(join(dirname(dirname(process.execPath)), 'include', 'node', 'node_api.h'));
}

/**
 * npm notes in node_modules/.package-lock.json what it has installed, as its last act. The tree is right when each package of our
 * lock file is there in its version; optional ones are for other platforms, and extra ones do no harm.
 */
function isTreeAsLocked() {
  const locked = readJson(join(PROJECT_DIR, 'package-lock.json'))?.packages ?? {};
  const installed = readJson(join(PROJECT_DIR, 'node_modules', '.package-lock.json'))?.packages;
  if (installed === undefined) return false;
  return Object.entries(locked).every(
    ([path, { version, optional }]) => path === '' || optional === true || installed[path]?.version === version,
  );
}

/** npm links the executables of dependencies only, not the project's own. */
function linkExecutable() {
  const link = join(PROJECT_DIR, 'node_modules', '.bin', 'fairlead');
  if (lstatSync(link, { throwIfNoEntry: false }) !== undefined) return;
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync('../../bin/fairlead.js', link);
}

function installedVersion(directory) {
  return readJson(join(directory, 'package.json'))?.version;
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined; // not there, or cut short by a killed npm: as good as not installed
  }
}
