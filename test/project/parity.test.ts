/** The pages of parity and of faults say the truth about what exists: every cell is filled, every method, file and test is there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { METHODS } from '../../shared/protocol/methods.ts';
import { filesBelow, listed, ROOT } from '../support/sources.ts';

interface Row {
  readonly cells: Readonly<Record<string, string>>;
  readonly line: string;
}

function rowsOf(page: string): Row[] {
  const rows: Row[] = [];
  let columns: string[] | undefined;
  for (const line of readFileSync(join(ROOT, 'docs/reference', page), 'utf8').split('\n')) {
    const cells = line.startsWith('|') ? cellsOf(line) : undefined;
    if (cells === undefined) columns = undefined;
    else if (columns === undefined) columns = cells;
    else if (!cells.every((cell) => /^-+$/.test(cell))) rows.push({ line, cells: named(columns, cells) });
  }
  return rows;
}

function cellsOf(line: string): string[] {
  return line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());
}

function named(columns: readonly string[], cells: readonly string[]): Record<string, string> {
  return Object.fromEntries(columns.map((column, index) => [column, cells[index] ?? '']));
}

/** What is wrong with a cell of the form `` `folder/name`: title `` (several with <br> between), or with a file alone. */
function problemsOfTests(cell: string): string[] {
  return cell.split('<br>').flatMap((entry) => {
    const [, name, title] = /^`([\w./-]+)`(?:: (.+))?$/.exec(entry) ?? [];
    if (name === undefined) return [`is no test: ${entry}`];
    const file = join(ROOT, 'test', `${name}.test.ts`);
    if (!existsSync(file)) return [`there is no test/${name}.test.ts`];
    const isThere = title === undefined || hasTitle(readFileSync(file, 'utf8'), title);
    return isThere ? [] : [`test/${name}.test.ts has no test "${title}"`];
  });
}

/** As a title stands in the source: a whole string. */
function hasTitle(source: string, title: string): boolean {
  return ["'", '"', '`'].some((quote) => source.includes(`${quote}${title}${quote}`));
}

const PARITY = rowsOf('parity.md');
const FAULTS = rowsOf('faults.md');
const FEATURES = PARITY.filter(({ cells }) => 'original' in cells);
const WEAKNESSES = PARITY.filter(({ cells }) => 'weakness' in cells);

describe('the pages of parity and faults', () => {
  it('have rows, and no cell of them is empty', () => {
    expect(FEATURES.length).toBeGreaterThan(60);
    expect(FAULTS.length).toBeGreaterThan(20);
    const empty = [...PARITY, ...FAULTS].filter(({ cells }) =>
      Object.values(cells).some((cell) => cell === '' || cell === 'undefined'),
    );
    expect(listed(empty.map(({ line }) => line))).toBe('');
  });

  it('name tests that exist, by file and title', () => {
    const found = [...FEATURES, ...FAULTS].flatMap(({ cells }) => problemsOfTests(cells['test'] ?? ''));
    expect(listed(found)).toBe('');
  });

  it('name files that exist', () => {
    const files = FEATURES.map(({ cells }) => (cells['file'] ?? '').replaceAll('`', ''));
    expect(listed(files.filter((file) => !existsSync(join(ROOT, file))))).toBe('');
  });

  it('name methods that exist', () => {
    const methods = new Set<string>(Object.keys(METHODS));
    const found = FEATURES.flatMap(({ cells }) =>
      [...(cells['here'] ?? '').matchAll(/`((?:vm|host|stream|guest|disk|network|medium|snapshot|op)\.\w+)`/g)].map(
        (match) => match[1] ?? '',
      ),
    );
    expect(found.length).toBeGreaterThan(20);
    const unknown = found.filter((name) => !methods.has(name) && name !== 'vm.ready' && name !== 'vm.json');
    expect(listed(unknown)).toBe('');
  });

  it('leave nothing to be done', () => {
    const lines = [...PARITY, ...FAULTS].map(({ line }) => line);
    expect(listed(lines.filter((line) => /\bplanned\b/.test(line)))).toBe('');
  });
});

describe('the weaknesses of the original', () => {
  it('are all 25 there, each with a test of its number or a reason why there can be none', () => {
    expect(WEAKNESSES.map(({ cells }) => cells[''])).toEqual(Array.from({ length: 25 }, (_, index) => String(index + 1)));
    const found = WEAKNESSES.flatMap(({ cells }) => {
      const test = cells['test'] ?? '';
      const number = (cells[''] ?? '').padStart(2, '0');
      if (test === 'none is possible')
        return (cells['why ours has not got it'] ?? '').startsWith('cannot be') ? [] : [`${number}: no reason`];
      return test.startsWith(`\`regression/weakness-${number}-`) ? problemsOfTests(test) : [`${number}: ${test}`];
    });
    expect(listed(found)).toBe('');
  });

  it('leave no test of theirs that the page does not name', () => {
    const page = readFileSync(join(ROOT, 'docs/reference/parity.md'), 'utf8');
    const files = filesBelow(join(ROOT, 'test/regression'), /^weakness-.*\.test\.ts$/);
    const names = files.map((file) => file.slice(join(ROOT, 'test/').length, -'.test.ts'.length));
    expect(listed(names.filter((name) => !page.includes(`\`${name}\``)))).toBe('');
  });
});
