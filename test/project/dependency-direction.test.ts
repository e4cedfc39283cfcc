/** Who may import whom (AGENTS.md, "Where things are"). A lazy `import()` counts like any other. */
import { describe, expect, it } from 'vitest';
import { type Import, listed, readSources, type Source } from '../support/sources.ts';

const SOURCES = readSources();
const topOf = (path: string): string => path.split('/')[0] ?? path;
const isBelow = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);

/** `file:line imports what` for each import that breaks the rule. */
function offenders(breaks: (source: Source, entry: Import) => boolean): string[] {
  return SOURCES.flatMap((source) =>
    source.imports
      .filter((entry) => breaks(source, entry))
      .map((entry) => `${source.path}:${entry.line} imports ${entry.specifier}`),
  );
}

/** What each top folder may import of ours besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  native: [],
  agent: ['shared', 'native'],
  hub: ['shared', 'native'],
  client: ['shared', 'native'],
  cli: ['shared', 'client'],
  bin: ['shared', 'agent', 'hub', 'cli', 'client', 'native'],
  scripts: ['shared', 'agent', 'hub', 'cli', 'client', 'native', 'bin'],
  bench: ['shared', 'agent', 'hub', 'cli', 'client', 'native', 'bin', 'scripts'],
};

/** Packages that only some files may import, by the folders or files that may. Tests may import anything. */
const CONFINED: Readonly<Record<string, readonly string[]>> = {
  ws: ['agent/link', 'hub', 'client/dial-node.ts', 'shared/node', 'bench', 'scripts'],
  hono: ['agent/http', 'hub'],
  '@hono/node-server': ['agent/http', 'hub'],
  pino: ['agent/main.ts', 'agent/logger.ts', 'hub/main.ts', 'hub/logger.ts', 'bench', 'bin', 'shared/node/logger.ts'],
};

const AGENT_PACKAGES_MAX = 8;

describe('the direction of dependencies', () => {
  it.each(Object.keys(MAY_IMPORT))('%s imports only what it may of ours', (folder) => {
    const allowed = [folder, ...(MAY_IMPORT[folder] ?? [])];
    const found = offenders(
      ({ path }, entry) => topOf(path) === folder && entry.path !== undefined && !allowed.includes(topOf(entry.path)),
    );
    expect(listed(found)).toBe('');
  });

  it('of the client, only what dials from Node loads the add-on', () => {
    const found = offenders(
      ({ path }, entry) =>
        isBelow(path, 'client') && path !== 'client/dial-node.ts' && entry.path !== undefined && topOf(entry.path) === 'native',
    );
    expect(listed(found)).toBe('');
  });

  it('nothing imports test but test', () => {
    const found = offenders(
      ({ path }, entry) => topOf(path) !== 'test' && entry.path !== undefined && topOf(entry.path) === 'test',
    );
    expect(listed(found)).toBe('');
  });

  it('shared is pure: node:* only in shared/node, types excepted', () => {
    const found = offenders(
      ({ path }, entry) =>
        isBelow(path, 'shared') &&
        !isBelow(path, 'shared/node') &&
        entry.package?.startsWith('node:') === true &&
        !entry.isTypeOnly,
    );
    expect(listed(found)).toBe('');
  });

  it('the mux has no timer, clock or socket of its own', () => {
    const own =
      /(?<![\w.$#])(setTimeout|setInterval|setImmediate|queueMicrotask|performance|Date|WebSocket|fetch|process|Buffer)\s*[.(]/;
    const found = SOURCES.filter(({ path }) => isBelow(path, 'shared/mux')).flatMap(({ path, codeLines }) =>
      codeLines.flatMap((code, index) => (own.test(code) ? [`${path}:${index + 1} ${code.trim()}`] : [])),
    );
    expect(listed(found)).toBe('');
  });

  it('pure shared does not import shared/node', () => {
    const found = offenders(
      ({ path }, entry) =>
        isBelow(path, 'shared') &&
        !isBelow(path, 'shared/node') &&
        entry.path !== undefined &&
        isBelow(entry.path, 'shared/node'),
    );
    expect(listed(found)).toBe('');
  });

  it.each(Object.keys(CONFINED))('%s is imported only where it belongs', (name) => {
    const places = CONFINED[name] ?? [];
    const found = offenders(
      ({ path }, entry) =>
        entry.package === name && !entry.isTypeOnly && topOf(path) !== 'test' && !places.some((place) => isBelow(path, place)),
    );
    expect(listed(found)).toBe('');
  });

  it('relative imports are written with their extension, and lead to a file', () => {
    const known = new Set(SOURCES.map((source) => source.path));
    const found = offenders(
      ({ path }, entry) =>
        entry.path !== undefined && !known.has(entry.path) && !(path.startsWith('test/') && entry.path.endsWith('.json')),
    );
    expect(listed(found)).toBe('');
  });

  it(`the agent loads at most ${AGENT_PACKAGES_MAX} packages`, () => {
    const packages = [...packagesReachedFrom('agent/')].toSorted();
    expect(listed(packages.length > AGENT_PACKAGES_MAX ? packages : [])).toBe('');
  });
});

/** Packages that a file below the folder, or anything that it imports, loads at run time. */
function packagesReachedFrom(folder: string): Set<string> {
  const byPath = new Map(SOURCES.map((source) => [source.path, source]));
  const seen = new Set<string>();
  const packages = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const entry of byPath.get(path)?.imports ?? []) {
      if (entry.isTypeOnly) continue;
      if (entry.path !== undefined) visit(entry.path);
      else if (entry.package?.startsWith('node:') === false) packages.add(entry.package);
    }
  };
  for (const { path } of SOURCES) if (path.startsWith(folder)) visit(path);
  return packages;
}
