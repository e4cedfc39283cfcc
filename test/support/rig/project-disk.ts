/**
 * The rig's second disk, `/fairlead` inside: the working copy as it is now, with the runtime libraries and the compiled add-on.
 * Made for each run, so that an edit is never missed; a second or so.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PROJECT_ROOT } from '../../../cli/image/cache.ts';
import { makeExt4 } from '../../../scripts/rig/root-image.ts';

const FOLDERS = ['agent', 'hub', 'client', 'cli', 'shared', 'bin', 'native', 'guest', 'scripts/demo', 'test/support', 'test/rig'];
const SOURCES = ['package.json', ...FOLDERS];

export interface ProjectDiskOptions {
  readonly file: string;
  /** An empty folder to lay the files out in; removed afterwards. */
  readonly scratch: string;
  /** More files: path below `/fairlead` to content. */
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  readonly signal?: AbortSignal | undefined;
}

export async function makeProjectDisk({ file, scratch, files, signal }: ProjectDiskOptions): Promise<void> {
  try {
    for (const path of [...SOURCES, ...runtimeLibraries()]) copy(path, scratch);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(scratch, path)), { recursive: true });
      writeFileSync(join(scratch, path), content);
    }
    await makeExt4(scratch, file, signal);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What the lock file calls neither a development nor an optional dependency. */
function runtimeLibraries(): string[] {
  // SAFETY: npm writes the lock file; a shape that is not this gives no library, and the programs inside say so at their first import.
  const lock = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; optional?: boolean }>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev, optional }]) => path !== '' && dev !== true && optional !== true)
    .map(([path]) => path);
}

function copy(path: string, to: string): void {
  const from = join(PROJECT_ROOT, path);
  if (!existsSync(from)) return;
  // Object files of the add-on are large and of no use inside.
  const filter = (source: string): boolean => !source.includes('/native/build/Release/obj.target');
  cpSync(from, join(to, path), { recursive: true, verbatimSymlinks: true, filter });
}
