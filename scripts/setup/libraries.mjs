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
  say,
  SetupError,
  systemPath,
  tail,
} from './step.mjs';

/** An older Node than the libraries ask for is no news here: the pinned one is what runs them. */
const QUIET = ['--no-audit', '--no-fund', '--loglevel=error'];

export async function installLibraries() {
  if (!isTreeAsLocked()) {
    say('installing the npm libraries');
    await npm(['ci', ...QUIET], 'the npm libraries');
  }
  if (needsPinnedNode() && installedVersion(PINNED_NODE_DIR) !== PINNED_NODE_VERSION) {
    if (process.platform !== 'linux') throw new SetupError('Fairlead needs Linux');
    say(`installing Node ${PINNED_NODE_VERSION} for this project (this machine has ${process.versions.node})`);
    await npm(['install', '--no-save', ...QUIET, `${PINNED_NODE_PACKAGE}@${PINNED_NODE_VERSION}`], `Node ${PINNED_NODE_VERSION}`);
  }
  linkExecutable();
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

async function npm(args, what) {
  const { ok, output } = await run('npm', args, { env: { PATH: systemPath() } });
  if (!ok) throw new SetupError(`could not install ${what} from the npm registry; npm says:\n${tail(output)}`);
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
