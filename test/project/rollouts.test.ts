/** The page about rollouts says the truth: each published failure has a test of that title, and twelve there are at least. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { listed, ROOT } from '../support/sources.ts';

const page = readFileSync(join(ROOT, 'docs/reference/rollouts.md'), 'utf8');
const rows = page
  .slice(page.indexOf('| what went wrong |'))
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| what went wrong'))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );

describe('the failures of other engines on the page of rollouts', () => {
  it('are twelve at least, and no cell is empty', () => {
    expect(rows.length).toBeGreaterThanOrEqual(12);
    expect(rows.filter((cells) => cells.length !== 4 || cells.includes(''))).toEqual([]);
  });

  it('name a test that exists, by file and title', () => {
    const wrong = rows.flatMap(([, , , cell = '']) => {
      const [, name = '', title = ''] = /^`([\w./-]+)`: (.+)$/.exec(cell) ?? [];
      const file = join(ROOT, 'test', `${name}.test.ts`);
      if (!existsSync(file)) return [`no test: ${cell}`];
      return readFileSync(file, 'utf8').includes(`'${title}'`) ? [] : [`test/${name}.test.ts has no test "${title}"`];
    });
    expect(listed(wrong)).toBe('');
  });
});
