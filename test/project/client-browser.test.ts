/** What a web page loads of the client library: nothing of Node, and no package but the one that checks schemas. */
import { describe, expect, it } from 'vitest';
import { listed, readSources } from '../support/sources.ts';

const ENTRY = 'client/browser.ts';
const PACKAGES = new Set(['valibot']);
/** Globals of Node that browsers lack. */
const GLOBALS = /(?<![\w.$#'"])(Buffer|process|setImmediate|clearImmediate|global|require|__dirname|NodeJS)\s*(?=[.([])/;

describe('the client library for browsers', () => {
  const byPath = new Map(readSources().map((source) => [source.path, source]));
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const entry of byPath.get(path)?.imports ?? []) if (entry.path !== undefined && !entry.isTypeOnly) visit(entry.path);
  };
  visit(ENTRY);
  const sources = [...reached].flatMap((path) => byPath.get(path) ?? []);

  it('imports no built-in of Node and no other package', () => {
    const found = sources.flatMap(({ path, imports }) =>
      imports
        .filter((entry) => !entry.isTypeOnly && entry.package !== undefined && !PACKAGES.has(entry.package))
        .map((entry) => `${path}:${entry.line} imports ${entry.specifier}`),
    );
    expect(listed(found)).toBe('');
    expect(sources.length).toBeGreaterThan(30);
  });

  it("uses no global of Node's", () => {
    const found = sources.flatMap(({ path, codeLines }) =>
      codeLines.flatMap((code, index) => (GLOBALS.test(code) ? [`${path}:${index + 1} ${code.trim()}`] : [])),
    );
    expect(listed(found)).toBe('');
  });
});
