/** The shape of the source files (AGENTS.md, "Rules"). Each assertion lists every offender with its place. */
import { describe, expect, it } from 'vitest';
import { blankOut, findImports, listed, readSources, type Source } from '../support/sources.ts';

const SOURCES = readSources();
const MAX_LINES = 500;

/** `file:line text` for each line of code that fits, strings and comments left out of account. */
function linesWith(pattern: RegExp, sources: readonly Source[] = SOURCES): string[] {
  return sources.flatMap(({ path, codeLines, lines }) =>
    codeLines.flatMap((code, index) => (pattern.test(code) ? [`${path}:${index + 1} ${lines[index]?.trim() ?? ''}`] : [])),
  );
}

describe('every source file', () => {
  it(`has at most ${MAX_LINES} lines`, () => {
    const found = SOURCES.filter(({ lines }) => lines.length - 1 > MAX_LINES).map(
      ({ path, lines }) => `${path} has ${lines.length - 1}`,
    );
    expect(listed(found)).toBe('');
  });

  it('has a name in kebab-case', () => {
    const found = SOURCES.map(({ path }) => path).filter(
      (path) => !/^([a-z0-9.-]+\/)*[a-z0-9]+(-[a-z0-9]+)*(\.test|\.d)?\.ts$/.test(path),
    );
    expect(listed(found)).toBe('');
  });

  it('exports by name only', () => {
    expect(listed(linesWith(/\bexport\s+default\b|\bas\s+default\b/))).toBe('');
  });

  it('has no `any`', () => {
    expect(listed(linesWith(/(?:[:<,|&(]|\bas|=>)\s*any\b(?!\s*:)|\bany\s*\[\]/))).toBe('');
  });

  it('uses erasable syntax only: no enum, namespace or parameter property', () => {
    const pattern =
      /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?(?:enum|namespace)\s+\w+\s*\{|\bconstructor\s*\([^)]*\b(?:private|public|protected)\b/;
    expect(listed(linesWith(pattern))).toBe('');
  });

  it('says at its head, or above its first export, what it is for, outside tests', () => {
    const found = SOURCES.filter(({ path, lines }) => !path.startsWith('test/') && !hasHeader(lines));
    expect(listed(found.map(({ path }) => path))).toBe('');
  });

  it('gives a SAFETY reason with each cast, non-null assertion and disabled rule', () => {
    const found = SOURCES.filter(({ path }) => !path.startsWith('test/')).flatMap(unexplained);
    expect(listed(found)).toBe('');
  });

  it('says why it skips a test', () => {
    const found = SOURCES.filter(({ codeLines }) => codeLines.some((code) => /\.skipIf\(/.test(code))).filter(
      ({ lines }) => !lines.some((line) => /[`'(](?:skipped\b|.*\bare skipped:)/.test(line)),
    );
    expect(listed(found.map(({ path }) => path))).toBe('');
  });

  it('is in no circle of imports', () => {
    expect(listed(circles(SOURCES))).toBe('');
  });
});

function hasHeader(lines: readonly string[]): boolean {
  const first = lines[lines[0]?.startsWith('#!') === true ? 1 : 0] ?? '';
  const firstExport = lines.findIndex((line) => line.startsWith('export '));
  return /^(?:\/\*\*|\/\/)/.test(first) || lines[firstExport - 1]?.endsWith('*/') === true;
}

/** `x as T` but neither `as const` nor the renaming of imports and exports; `x!`; `@ts-expect-error`; disabled lint rules. */
const CAST = /(?<=[\w)\]}'"`])\s+as\s+(?!const\b)[\w({['"`]/;
const NON_NULL = /[\w)\]]!(?=[.,;)\]\s[(]|$)(?!\s*=)/;
const DISABLED = /(?:oxlint|eslint|biome)-(?:disable|ignore)|@ts-(?:expect-error|ignore|nocheck)/;
/** Lines above in which the reason may stand: a comment's length and the start of the statement. */
const REASON_LINES = 6;

function unexplained(source: Source): string[] {
  const inClause = linesOfImportClauses(source);
  return source.lines.flatMap((line, index) => {
    const code = source.codeLines[index] ?? '';
    const isCast = CAST.test(code) && !inClause.has(index) && !/\*\s+as\s/.test(code);
    if (!isCast && !NON_NULL.test(code) && !DISABLED.test(line)) return [];
    const reason = source.lines.slice(Math.max(0, index - REASON_LINES), index + 1).some((above) => /SAFETY\b[^:]*:/.test(above));
    return reason ? [] : [`${source.path}:${index + 1} ${line.trim()}`];
  });
}

/** Lines inside `import {…}` and `export {…}`, where `as` renames. */
function linesOfImportClauses({ codeLines }: Source): Set<number> {
  const lines = new Set<number>();
  let isInside = false;
  for (const [index, code] of codeLines.entries()) {
    if (/^\s*(?:import|export)\s+(?:type\s+)?[{*]/.test(code)) isInside = true;
    if (isInside) lines.add(index);
    if (isInside && code.includes('}')) isInside = false;
    if (isInside && /;\s*$/.test(code)) isInside = false;
  }
  return lines;
}

/** Each circle once, as `a → b → a`. Imports of types count: two files that need each other's types are one subject. */
function circles(sources: readonly Source[]): string[] {
  const imports = new Map(
    sources.map(({ path, imports }) => [
      path,
      imports.filter((entry) => !entry.isLazy).flatMap((entry) => (entry.path === undefined ? [] : [entry.path])),
    ]),
  );
  const done = new Set<string>();
  const trail: string[] = [];
  const found: string[] = [];
  const visit = (path: string): void => {
    const at = trail.indexOf(path);
    if (at >= 0) found.push([...trail.slice(at), path].join(' → '));
    if (at >= 0 || done.has(path)) return;
    trail.push(path);
    for (const next of imports.get(path) ?? []) visit(next);
    trail.pop();
    done.add(path);
  };
  for (const path of imports.keys()) visit(path);
  return found;
}

describe('the scanner behind these tests', () => {
  const importsOf = (text: string) => findImports('a/b.ts', text, blankOut(text));

  it('sees imports of every form', () => {
    const text = [
      "import { x } from './x.ts';",
      "import type { Y } from '../y/y.ts';",
      "import { type Z, type W } from 'zod/mini';",
      "import {\n  one,\n  two,\n} from '@scope/name/deep';",
      "import * as v from 'valibot';",
      "import 'side';",
      "export { q } from './q.ts';",
      "export * from './r.ts';",
      "const lazy = await import('./lazy.ts');",
    ].join('\n');
    expect(importsOf(text).map((entry) => [entry.path ?? entry.package, entry.isTypeOnly, entry.isLazy])).toEqual([
      ['a/x.ts', false, false],
      ['y/y.ts', true, false],
      ['zod', true, false],
      ['@scope/name', false, false],
      ['valibot', false, false],
      ['side', false, false],
      ['a/q.ts', false, false],
      ['a/r.ts', false, false],
      ['a/lazy.ts', false, true],
    ]);
  });

  it('sees none in comments, strings, templates and regular expressions', () => {
    const text = [
      "// import 'a'",
      "/* import { b } from 'b' */",
      'const s = "import \'c\'";',
      "const t = `import 'd'`;",
      "const r = /import 'e'/;",
    ].join('\n');
    expect(importsOf(text)).toEqual([]);
  });

  it('does not take an export with a text in it for an import', () => {
    expect(
      importsOf("export const NAME = 'x';\nexport function f(a: string) { return 'b'; }\nexport type T = 'a' | 'b';"),
    ).toEqual([]);
  });

  it('tells casts and assertions from what looks like them', () => {
    const casts = ['x as T', 'f() as unknown as T', "(x as { a: 'b' })"];
    for (const code of casts) expect(CAST.test(code)).toBe(true);
    for (const code of ['x as const', "'same as it'"]) expect(CAST.test(blankOut(code))).toBe(false);
    for (const code of ['x!.y', 'f(x!)', 'a[0]!;']) expect(NON_NULL.test(code)).toBe(true);
    for (const code of ['a !== b', '!x', 'a != b', 'if (!a)']) expect(NON_NULL.test(code)).toBe(false);
  });
});
