/**
 * Fetches Debian packages of any suite and unpacks them into the cache, without touching the machine's own apt.
 *
 * A private apt configuration holds one suite at a time: its own source, lists and cache, no dpkg status. Nothing is installed, no root
 * is needed, and signatures are checked by apt against Debian's archive keyring as always. Packages are unpacked once per version into
 * `<cache>/packages/<name>_<version>_<architecture>/` and never changed afterwards.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { FairleadError, isFairleadError } from '../../shared/errors.ts';
import { type AptSource, findDebianMirror, parseFields, readAptSources } from './apt-sources.ts';
import { publish } from './cache.ts';
import { type CommandOptions, runCommand } from './command.ts';

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Where it is unpacked: the root of the package's files. */
  readonly directory: string;
}

export interface FetchOptions {
  readonly cacheDir: string;
  /** A code name: `bookworm`, `bookworm-backports`, `forky`. */
  readonly suite: string;
  /** Debian's name of it; the machine's own by default. */
  readonly architecture?: string | undefined;
  readonly names: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/** Package lists are fetched again after this long: only builds look at them, and a build wants what the archive holds now. */
const LISTS_FRESH_MS = 60 * 60 * 1000;
const KEYRING_SUITE = 'bookworm';
const KEYRING_PACKAGE = 'debian-archive-keyring';
const DEBIAN_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Fetches and unpacks the newest version of each package in the suite. Dependencies are the caller's: it names what it wants. */
export async function fetchPackages(options: FetchOptions): Promise<DebianPackage[]> {
  const { cacheDir, names, signal } = options;
  const apt = await openSuite(options);
  const known = await describePackages(apt, names, signal);
  const wanted = known.map(({ name, version, architecture }) => ({
    name,
    version,
    directory: join(cacheDir, 'packages', `${name}_${version.replaceAll(':', '%3a')}_${architecture}`),
  }));
  const missing = wanted.filter(({ directory }) => !existsSync(directory));
  if (missing.length > 0) await download(apt, cacheDir, missing, signal);
  return wanted;
}

/** The package of its suite that a metapackage stands for: the first dependency whose name starts as given. */
export async function resolveMetapackage(
  options: Omit<FetchOptions, 'names'> & { name: string; prefix: string },
): Promise<string> {
  const { suite, name, prefix, signal } = options;
  const [description] = await describePackages(await openSuite(options), [name], signal);
  const dependency = description?.depends.find((candidate) => candidate.startsWith(prefix));
  if (dependency !== undefined) return dependency;
  throw new FairleadError('NOT_FOUND', `could not resolve ${name} of Debian ${suite}: it depends on nothing called ${prefix}*`);
}

/** apt arguments that make one private suite. */
type Apt = readonly string[];

async function openSuite({ cacheDir, suite, architecture, signal }: Omit<FetchOptions, 'names'>): Promise<Apt> {
  const state = await publish({
    cacheDir,
    name: architecture === undefined ? `apt-${suite}` : `apt-${suite}-${architecture}`,
    key: String(Math.floor(Date.now() / LISTS_FRESH_MS)),
    fill: async (directory) => {
      const { uri, signedBy = DEBIAN_KEYRING } = machineMirror();
      try {
        await updateLists({ state: directory, uri, suite, architecture, keyring: signedBy, signal });
      } catch (error) {
        // A suite that is younger than this machine's keyring: a suite that the keyring does verify vouches for the newer keyring.
        if (suite === KEYRING_SUITE || !isUnknownKey(error)) throw error;
        const [newer] = await fetchPackages({ cacheDir, suite: KEYRING_SUITE, names: [KEYRING_PACKAGE], signal });
        const keyring = `${newer?.directory}${DEBIAN_KEYRING}`;
        await updateLists({ state: directory, uri, suite, architecture, keyring, signal });
      }
    },
  });
  return aptArguments(state, architecture);
}

async function updateLists(list: {
  state: string;
  uri: string;
  suite: string;
  architecture: string | undefined;
  keyring: string;
  signal: AbortSignal | undefined;
}): Promise<void> {
  const { state, uri, suite, architecture, keyring, signal } = list;
  await writeFile(join(state, 'sources.list'), `deb [signed-by=${keyring}] ${uri} ${suite} main\n`);
  const purpose = `read the package lists of Debian ${suite}`;
  const update = (...more: readonly string[]) =>
    runApt(purpose, 'apt-get', [...aptArguments(state, architecture), ...more, 'update', '-q', '--error-on=any'], { signal });
  try {
    await update();
  } catch (error) {
    // Lists of a suite that moves are good for a week, by their own word. A mirror that has stood still for longer has what Debian signed then.
    if (!isExpired(error)) throw error;
    process.emitWarning(`${error.message} They are taken as they are: their signature is good.`);
    await update('-o', 'Acquire::Check-Valid-Until=false');
  }
}

/** One of apt's programs. What it failed at and its first error line, which says most, make the message; all of it is in `cause`. */
async function runApt(purpose: string, program: string, args: readonly string[], options: CommandOptions): Promise<string> {
  try {
    return await runCommand(program, args, options);
  } catch (error) {
    if (!isFairleadError(error) || error.code !== 'PROCESS_FAILED') throw error;
    const reason = /\bE: (.*)/.exec(error.message)?.[1]?.replaceAll(/\s+/g, ' ') ?? error.message;
    throw new FairleadError('PROCESS_FAILED', `could not ${purpose}: ${reason}`, { cause: error });
  }
}

function isUnknownKey(error: unknown): boolean {
  return error instanceof Error && String(error.cause).includes('NO_PUBKEY');
}

function isExpired(error: unknown): error is Error {
  return error instanceof Error && /Release file for \S+ is expired/.test(error.message);
}

function aptArguments(state: string, architecture: string | undefined): Apt {
  const settings = {
    'Dir::Etc::sourcelist': join(state, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': state,
    'Dir::State::status': '/dev/null',
    'Dir::Cache': state,
    'Dir::Cache::pkgcache': '',
    'Dir::Cache::srcpkgcache': '',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
    // A published folder is shared by readers and written by nobody: there is nothing to lock.
    'Debug::NoLocking': '1',
    // As root, apt would drop to a user who cannot write into the cache folder.
    'APT::Sandbox::User': '',
    ...(architecture === undefined ? {} : { 'APT::Architecture': architecture, 'APT::Architectures': architecture }),
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

interface Description {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Names of direct dependencies, of alternatives the first. */
  readonly depends: readonly string[];
}

async function describePackages(apt: Apt, names: readonly string[], signal: AbortSignal | undefined): Promise<Description[]> {
  const purpose = `look up ${names.join(', ')} in Debian's package lists`;
  const output = await runApt(purpose, 'apt-cache', [...apt, 'show', '--no-all-versions', ...names], { signal });
  const found = output.split('\n\n').map(parseFields);
  return names.map((name) => {
    const fields = found.find((candidate) => candidate.get('package') === name);
    const version = fields?.get('version');
    if (fields === undefined || version === undefined)
      throw new FairleadError('NOT_FOUND', `the Debian archive has no package ${name}`);
    const depends = (fields.get('depends') ?? '').split(',').map((clause) => clause.trim().split(/[\s(|:]/)[0] ?? '');
    return { name, version, architecture: fields.get('architecture') ?? 'all', depends };
  });
}

async function download(
  apt: Apt,
  cacheDir: string,
  packages: readonly DebianPackage[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const shelf = join(cacheDir, 'packages');
  await mkdir(shelf, { recursive: true });
  const scratch = await mkdtemp(join(shelf, '.new-'));
  try {
    const names = packages.map(({ name, version }) => `${name}=${version}`);
    const purpose = `download ${names.join(', ')} from the Debian archive`;
    await runApt(purpose, 'apt-get', [...apt, 'download', '-q', ...names], { cwd: scratch, signal });
    const archives = (await readdir(scratch)).filter((file) => file.endsWith('.deb'));
    for (const { name, directory } of packages) {
      const archive = archives.find((file) => file.startsWith(`${name}_`));
      if (archive === undefined) throw new FairleadError('NOT_FOUND', `apt-get downloaded no archive of ${name}`);
      const unpacked = join(scratch, basename(directory));
      await runCommand('dpkg-deb', ['-x', join(scratch, archive), unpacked], { signal });
      await rename(unpacked, directory).catch((error: unknown) => {
        if (!existsSync(directory)) throw error; // else another run unpacked the same version first
      });
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Suites under which a machine may know the archive: its own code name, and the names that stay while releases change. */
function machineMirror(): AptSource {
  const release = /^VERSION_CODENAME=(\S+)/m.exec(readOsRelease())?.[1];
  const suites = [
    'stable',
    'testing',
    'unstable',
    'sid',
    'oldstable',
    'bookworm',
    'trixie',
    'forky',
    ...(release ? [release] : []),
  ];
  const mirror = findDebianMirror(readAptSources(), suites);
  if (mirror !== undefined) return mirror;
  throw new FairleadError(
    'UNSUPPORTED',
    'found no Debian mirror among the package sources of this machine: the guest image is made of Debian packages, so build it on Debian, or set FAIRLEAD_CACHE_DIR to the cache folder of a machine that has built it',
  );
}

function readOsRelease(): string {
  try {
    return readFileSync('/etc/os-release', 'utf8');
  } catch {
    return ''; // not a Linux distribution that says what it is; the well-known suites still count
  }
}
