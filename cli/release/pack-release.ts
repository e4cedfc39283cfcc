/**
 * Makes a release of the agent out of an installed package: what Node loads, the native add-on where it was built, and the libraries that the package
 * names, with what those name in turn. The same package makes the same bytes.
 */
import { createWriteStream } from 'node:fs';
import { access, readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { createGzip } from 'node:zlib';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { releaseHost } from '../../shared/node/release-host.ts';
import { type TarFile, tarOf } from '../../shared/node/tar.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { RELEASE_ENTRY, RELEASE_MANIFEST, type ReleaseManifest, STATE_FORM } from '../../shared/protocol/release.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';

export interface PackedRelease {
  readonly path: string;
  readonly manifest: ReleaseManifest;
  readonly files: number;
}

const Package = v.object({
  name: v.string(),
  version: v.string(),
  engines: v.optional(v.object({ node: v.optional(v.string()) })),
  dependencies: v.optional(v.record(v.string(), v.string()), {}),
});

const ADDON = 'native/build/Release/fairlead_native.node';
/** Needed to build the add-on, and not to run it. */
const FOR_BUILDING = new Set(['node-addon-api']);
const FOR_READERS = /\.(d\.[cm]?ts|map)$/;

/** @throws FairleadError NOT_FOUND where the package was not compiled, or lacks a library */
export async function packRelease(target: string, root?: string): Promise<PackedRelease> {
  const directory = root ?? (await ownPackage());
  const { version, engines } = await readPackage(directory);
  const paths = ['package.json', RELEASE_ENTRY, ...(await filesBelow(directory, 'dist'))];
  if (!paths.includes('dist/bin/fairlead.js')) {
    throw new FairleadError('NOT_FOUND', `${directory} has no dist: compile it with \`npm run build\` first`);
  }
  const hasAddon = await exists(join(directory, ADDON));
  if (hasAddon) paths.push(ADDON);
  for (const library of [...(await librariesOf(directory))].toSorted()) {
    paths.push(...(await filesBelow(directory, relative(directory, library))));
  }
  const { platform, architecture, libc } = releaseHost();
  const manifest: ReleaseManifest = {
    kind: 'fairlead-agent',
    version,
    contractVersion: CONTRACT_VERSION,
    node: oldestNode(engines?.node),
    platform,
    architecture,
    libc: hasAddon ? libc : 'any',
    stateForm: STATE_FORM,
  };
  const files = [...new Set(paths)].filter((path) => !FOR_READERS.test(path));
  await writeArchive(target, directory, manifest, files);
  return { path: target, manifest, files: files.length };
}

async function writeArchive(
  target: string,
  directory: string,
  manifest: ReleaseManifest,
  paths: readonly string[],
): Promise<void> {
  const parts = async function* (): AsyncGenerator<Uint8Array> {
    const files: TarFile[] = [];
    const content = Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`);
    files.push({ path: RELEASE_MANIFEST, content, isExecutable: false });
    for (const path of paths) files.push(await tarFile(directory, path));
    yield* tarOf(files);
  };
  await pipeline(Readable.from(parts()), createGzip({ level: 9 }), createWriteStream(target));
}

async function tarFile(directory: string, path: string): Promise<TarFile> {
  const { mode } = await stat(join(directory, path));
  return { path, content: await readFile(join(directory, path)), isExecutable: (mode & 0o111) !== 0 };
}

/** Directories of all libraries that the package needs to run, found as Node finds them. */
async function librariesOf(directory: string, root = directory, found = new Set<string>()): Promise<Set<string>> {
  const { dependencies } = await readPackage(directory);
  for (const name of Object.keys(dependencies)) {
    if (FOR_BUILDING.has(name)) continue;
    const library = await findLibrary(name, directory, root);
    if (found.has(library)) continue;
    await librariesOf(library, root, found.add(library));
  }
  return found;
}

async function findLibrary(name: string, from: string, root: string): Promise<string> {
  for (let directory = from; directory.startsWith(root); directory = dirname(directory)) {
    const candidate = join(directory, 'node_modules', name);
    if (await exists(join(candidate, 'package.json'))) return candidate;
  }
  throw new FairleadError('NOT_FOUND', `library ${name} of ${from} is not installed: run \`npm run setup\` first`);
}

/** Relative to the package, sorted; libraries that libraries have for themselves are asked for by those. */
async function filesBelow(directory: string, path: string): Promise<string[]> {
  const entries = await readdir(join(directory, path), { withFileTypes: true }).catch(() => []);
  const files: string[] = [];
  for (const entry of entries.toSorted((left, right) => (left.name < right.name ? -1 : 1))) {
    const below = join(path, entry.name);
    if (entry.isDirectory() && entry.name !== 'node_modules') files.push(...(await filesBelow(directory, below)));
    if (entry.isFile()) files.push(below);
  }
  return files;
}

async function readPackage(directory: string): Promise<v.InferOutput<typeof Package>> {
  const text = await readFile(join(directory, 'package.json'), 'utf8');
  return parseWith(Package, JSON.parse(text), join(directory, 'package.json'), 'NOT_FOUND');
}

/** The package that this file belongs to, compiled or not. */
async function ownPackage(): Promise<string> {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!(await exists(join(directory, 'package.json')))) directory = dirname(directory);
  return directory;
}

/** `>=24.15` */
function oldestNode(range = '>=24.0'): string {
  const [major = '24', minor = '0', patch = '0'] = range.replace(/^\D*/, '').split('.');
  return `${major}.${minor}.${patch}`;
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
