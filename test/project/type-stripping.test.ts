/** Node runs the sources as they are: what its stripping of types refuses would be found by users alone, since tsc and vitest take it. */
import { globSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const SOURCES = globSync('{agent,shared,hub,cli,client,native,bin,bench,scripts,guest}/**/*.ts', {
  cwd: ROOT,
  exclude: ['**/node_modules/**', '**/build/**'],
});

test('Node can strip the types of every source', () => {
  const refused = SOURCES.flatMap((path) => {
    try {
      stripTypeScriptTypes(readFileSync(join(ROOT, path), 'utf8'));
      return [];
    } catch (error) {
      return [`${path}: ${error instanceof Error ? error.message : String(error)}`];
    }
  });
  expect(refused).toEqual([]);
  expect(SOURCES.length).toBeGreaterThan(300);
});

test('and refuses what it cannot', () => {
  expect(() => stripTypeScriptTypes('for (const of of [1] as const) {}')).toThrow(/declaration list/);
});
