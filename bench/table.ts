/** The report for people: a table, peers in columns of their own, and below it how anybody failed. */
import type { Row } from './measure.ts';

export function renderTable(rows: readonly Row[]): string {
  const peers = [...new Set(rows.flatMap((row) => Object.keys(row.peers ?? {})))];
  const header = ['measure', 'unit', 'ours', 'baseline', 'ratio', 'limit', 'holds', ...peers];
  const lines = rows.map((row) => [
    row.name,
    row.unit,
    cell(row, 'ours', row.ours),
    cell(row, 'baseline', row.baseline),
    cell(row, 'ratio', row.ratio),
    cell(row, 'limit', row.limit),
    row.holds ? 'yes' : 'NO',
    ...peers.map((peer) => cell(row, peer, row.peers?.[peer] ?? Number.NaN)),
  ]);
  const widths = header.map((title, index) => Math.max(title.length, ...lines.map((line) => line[index]?.length ?? 0)));
  const table = [header, ...lines].map((line) =>
    line
      .map((text, index) => text.padEnd(widths[index] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...table, ...notes(rows)].join('\n');
}

function cell({ fails }: Row, column: string, figure: number): string {
  if (fails !== undefined && Object.hasOwn(fails, column)) return 'fails';
  return Number.isNaN(figure) ? '-' : String(figure);
}

/** Each failure once, with the rows that it is in. */
function notes(rows: readonly Row[]): string[] {
  const rowsOf = new Map<string, string[]>();
  for (const { name, fails = {} } of rows) {
    for (const [contender, how] of Object.entries(fails)) {
      const failure = `${contender}: ${how}`;
      rowsOf.set(failure, [...(rowsOf.get(failure) ?? []), name]);
    }
  }
  return [...rowsOf].map(([failure, names]) => `fails  ${failure}  (${names.join('; ')})`);
}
