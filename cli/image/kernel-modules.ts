/**
 * The kernel modules of a guest, in an order in which `insmod` can load them.
 *
 * Debian's kernel packages hold no modules.dep (depmod makes it at installation), so the dependencies are read from each module's
 * `.modinfo` section, where the kernel's build wrote them. Names follow the kernel's habit: `-` and `_` mean the same.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import { readSection } from './elf.ts';

export interface KernelModule {
  readonly name: string;
  readonly path: string;
}

/** The wanted modules and all they depend on, each after its dependencies. What the kernel has built in is left out. */
export function kernelModules(modulesDir: string, wanted: readonly string[]): KernelModule[] {
  const files = new Map(listModules(modulesDir).map((path) => [moduleName(path), path]));
  const builtIn = new Set(readFileSync(join(modulesDir, 'modules.builtin'), 'utf8').split('\n').map(moduleName));
  return loadOrder(wanted.map(canonical), (name) => {
    if (builtIn.has(name)) return undefined;
    const path = files.get(name);
    if (path === undefined) throw new FairleadError('NOT_FOUND', `the kernel in ${modulesDir} has no module ${name}`);
    return moduleDependencies(readFileSync(path));
  }).map((name) => ({ name, path: files.get(name) ?? name }));
}

/** Names each after its dependencies. `dependenciesOf` gives undefined for a name that needs no loading. */
export function loadOrder(wanted: readonly string[], dependenciesOf: (name: string) => readonly string[] | undefined): string[] {
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return; // done, or above us: the kernel has no circular dependencies
    seen.add(name);
    const dependencies = dependenciesOf(name);
    if (dependencies === undefined) return;
    dependencies.forEach(visit);
    order.push(name);
  };
  wanted.forEach(visit);
  return order;
}

/** `depends=a,b` among the NUL-ended `key=value` strings of `.modinfo`. */
export function moduleDependencies(file: Buffer): string[] {
  const info = readSection(file, '.modinfo')?.toString('utf8').split('\0') ?? [];
  const depends = info.find((entry) => entry.startsWith('depends='))?.slice('depends='.length) ?? '';
  return depends
    .split(',')
    .filter((name) => name !== '')
    .map(canonical);
}

function listModules(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ko'))
    .map((path) => join(directory, path));
}

function moduleName(path: string): string {
  return canonical(basename(path).replace(/\.ko$/, ''));
}

function canonical(name: string): string {
  return name.replaceAll('-', '_');
}
