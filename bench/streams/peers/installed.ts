/**
 * The peers' packages: in a folder of their own in the cache, by the versions and hashes of the lock file in packages/, so that nothing of
 * them comes near the product's own libraries.
 */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { PROJECT_ROOT } from '../../../cli/image/cache.ts';

const FOLDER = join(PROJECT_ROOT, '.cache/bench-peers');
/** Copy of the lock file that the folder was made by, written when it is complete. */
const STAMP = join(FOLDER, 'installed.json');
const LISTS = ['package.json', 'package-lock.json'] as const;

/** Once a machine, and again when the lock file changes. @throws Error when they cannot be had */
export async function installPeers(): Promise<void> {
  if (await arePeersInstalled()) return;
  process.stderr.write('installing the peers into .cache/bench-peers\n');
  await mkdir(FOLDER, { recursive: true });
  for (const list of LISTS) await copyFile(listed(list), join(FOLDER, list));
  await promisify(execFile)('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: FOLDER });
  await copyFile(listed('package-lock.json'), STAMP);
}

/** Whether they can be loaded, by the lock file as it is. */
export async function arePeersInstalled(): Promise<boolean> {
  const lock = await readFile(listed('package-lock.json'), 'utf8');
  return (await readFile(STAMP, 'utf8').catch(() => '')) === lock;
}

/** Loads a module of an installed package by the path of its file, whose shape the caller knows. */
export async function loadPeer<Module>(file: string): Promise<Module> {
  // SAFETY: the lock file pins the package, and each adapter was written by its declarations.
  return (await import(pathToFileURL(join(FOLDER, 'node_modules', file)).href)) as Module;
}

function listed(name: string): string {
  return fileURLToPath(new URL(`packages/${name}`, import.meta.url));
}
