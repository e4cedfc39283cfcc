/**
 * The add-on built with AddressSanitizer and UndefinedBehaviorSanitizer, and the environment that makes an unchanged Node run it.
 * Leak detection is off: Node itself leaks by design at its end. Descriptors and threads are counted by the tests themselves.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

export interface AsanBuild {
  /** The module, for FAIRLEAD_NATIVE. */
  readonly path: string;
  /** What the module and the preloading need of this machine, for a run in a VM. */
  readonly libraries: readonly string[];
  /** To be added to the environment of a Node that runs it. */
  readonly env: Readonly<Record<string, string>>;
}

const ROOT = join(import.meta.dirname, '../..');
const SOURCES = join(ROOT, 'native/src');
const CACHE = join(ROOT, '.cache/asan');

const FLAGS = [
  '-std=gnu++20',
  '-fPIC',
  '-g',
  '-O1',
  '-fno-omit-frame-pointer',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
  '-fvisibility=hidden',
  '-DNAPI_VERSION=8',
  '-DNODE_ADDON_API_CPP_EXCEPTIONS_ALL',
  '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
  '-DNODE_GYP_MODULE_NAME=fairlead_native',
];

/** The build, made once a state of the sources; or why this machine cannot make it. Sources other than the project's may be given. */
export function buildWithAsan(sources: string = SOURCES): AsanBuild | { readonly reason: string } {
  const headers = join(dirname(realpathSync(process.execPath)), '../include/node');
  if (!existsSync(join(headers, 'node_api.h'))) return { reason: `no headers of the running Node in ${headers}` };
  const libraries = ['libasan.so', 'libubsan.so'].map(libraryOf).filter((library) => library !== undefined);
  const [libasan] = libraries;
  if (libasan === undefined || libraries.length !== 2) return { reason: 'no g++ with libasan and libubsan' };

  const path = join(CACHE, `fairlead-${digest(sources)}.node`);
  if (!existsSync(path)) compile(sources, headers, path);
  const options =
    'detect_leaks=0:exitcode=86:malloc_context_size=8:quarantine_size_mb=16:strict_string_checks=1:detect_stack_use_after_return=1';
  return { path, libraries, env: { FAIRLEAD_NATIVE: path, LD_PRELOAD: libasan, ASAN_OPTIONS: options } };
}

/** The compiler's own run-time library, under the name that programs ask for. */
function libraryOf(name: string): string | undefined {
  const { stdout } = spawnSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' });
  const path = stdout?.trim() ?? '';
  if (!path.startsWith('/')) return undefined;
  const file = realpathSync(path);
  // libasan.so.8.0.0 is asked for as libasan.so.8.
  const soname = file.replace(/(\.so\.\d+)\..*$/, '$1');
  return existsSync(soname) ? soname : file;
}

function filesOf(sources: string): string[] {
  return readdirSync(sources)
    .toSorted()
    .map((name) => join(sources, name));
}

function digest(sources: string): string {
  const hash = createHash('sha256').update(FLAGS.join(' ')).update(process.version);
  for (const file of filesOf(sources)) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

/** Compiles into a folder of this process and renames at the end, so that runs at the same time do not meet half a file. */
function compile(sources: string, headers: string, path: string): void {
  const folder = join(CACHE, `build-${process.pid}`);
  mkdirSync(folder, { recursive: true });
  try {
    const include = dirname(createRequire(import.meta.url).resolve('node-addon-api'));
    const units = filesOf(sources).filter((file) => file.endsWith('.cc'));
    const output = join(folder, 'fairlead.node');
    // One unit that includes all: the headers of node-addon-api, most of the work, are then read once.
    const unity = units.map((file) => `#include ${JSON.stringify(file)}`).join('\n');
    const args = [...FLAGS, '-shared', '-I', headers, '-I', include, '-x', 'c++', '-', '-o', output];
    const { status, stderr } = spawnSync('g++', args, { input: unity, encoding: 'utf8' });
    if (status !== 0) throw new Error(`could not build the add-on with AddressSanitizer: ${stderr}`);
    renameSync(output, path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
