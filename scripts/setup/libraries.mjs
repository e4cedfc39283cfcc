/** The npm libraries, the pinned Node where the machine's own is too old, and the `fairlead` link for npx. */
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
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

const TREE = join(PROJECT_DIR, 'node_modules');
/** Where npm notes what it has installed, as its last act. */
const NOTE = join(TREE, '.package-lock.json');

export async function installLibraries() {
  if (process.platform !== 'linux') throw new SetupError('Fairlead runs on Linux only');
  const pin = needsPinnedNode() ? `${PINNED_NODE_PACKAGE}@${PINNED_NODE_VERSION}` : undefined;
  const pinned = pin === undefined || installedVersion(PINNED_NODE_DIR) === PINNED_NODE_VERSION;
  if (!isTreeAsLocked() || !pinned) {
    say(
      `installing the npm libraries${pinned ? '' : `, and Node ${PINNED_NODE_VERSION} beside this machine's ${process.versions.node}`}`,
    );
    dropUnfinishedTree();
    await npmInstall(pin === undefined ? [] : [pin]);
  }
  linkExecutable();
}

/** A killed npm leaves packages that look whole and are not. So the note goes before npm starts, and a tree without one goes too. */
function dropUnfinishedTree() {
  if (!existsSync(NOTE)) rmSync(TREE, { recursive: true, force: true });
  rmSync(NOTE, { force: true });
}

/**
 * The locked versions, without a change to the lock file. Not `npm ci`: that refuses a lock file which does not list the optional
 * packages of every other platform, and a registry need not hold those. The pinned Node is named each time, or npm would remove it.
 */
async function npmInstall(extra) {
  const unreachable = await whyRegistryIsSilent();
  const flags = ['--no-save', '--no-audit', '--no-fund', ...(unreachable ? ['--offline'] : [])];
  const { ok, output } = await npm(['install', ...flags, ...extra]);
  if (ok) return;
  const problem = unreachable
    ? `the npm registry does not answer (${unreachable}), and npm's cache does not hold all of them: check the network, or npm's proxy and registry settings`
    : `npm says:\n${tail(output)}`;
  throw new SetupError(`could not install the libraries: ${problem}`);
}

/** One question before the many: without an answer npm would wait for each of a hundred packages in turn, for half an hour. */
async function whyRegistryIsSilent() {
  const [[path, { version }]] = Object.entries(lockedPackages());
  const question = `${path.slice('node_modules/'.length)}@${version}`;
  const cache = mkdtempSync(join(tmpdir(), 'fairlead-setup-')); // from its own, npm would answer without asking
  try {
    const { ok, output } = await npm(['view', question, 'version', '--fetch-retries=1', `--cache=${cache}`]);
    return ok ? undefined : (/failed, reason: (.*)/.exec(output)?.[1] ?? tail(output, 1));
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
}

/** With its errors even where the npm that runs this was told to be silent, and without its warnings about an older Node. */
function npm(args) {
  return run('npm', [...args, '--loglevel=error'], { env: { PATH: systemPath() } });
}

/** Where Node is current but came without its headers, the package serves for those: the add-on cannot be built without. */
function needsPinnedNode() {
  return !isNodeCurrent() || !existsSync(join(dirname(dirname(process.execPath)), 'include', 'node', 'node_api.h'));
}

/** The tree is right when each package of our lock file that this machine needs is there in its version; extra ones do no harm. */
function isTreeAsLocked() {
  const installed = readJson(NOTE)?.packages;
  if (installed === undefined) return false;
  return Object.entries(lockedPackages()).every(([path, { version }]) => installed[path]?.version === version);
}

/** Path in the project to what the lock file says of it: all but what is optional and made for other machines. */
function lockedPackages() {
  const packages = Object.entries(readJson(join(PROJECT_DIR, 'package-lock.json'))?.packages ?? {});
  return Object.fromEntries(
    packages.filter(([path, entry]) => path !== '' && (entry.optional !== true || isForThisMachine(entry))),
  );
}

function isForThisMachine({ os = [], cpu = [], libc }) {
  const ours = process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
  return os.includes('linux') && cpu.includes(process.arch) && (libc ?? [ours]).includes(ours);
}

/** npm links the executables of dependencies only, not the project's own. */
function linkExecutable() {
  const link = join(TREE, '.bin', 'fairlead');
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
