/**
 * `npm run bench -- GROUP [--json] [--runs N] [--only NAME]`: the promises that are about speed and size, each against its baseline.
 * Ends with 1 when one does not hold.
 */
import { parseArgs } from 'node:util';
import { measure, renderTable, type Measurement, type Row } from './measure.ts';

/** A group prepares its measurements and takes everything down again. */
export interface Group extends AsyncDisposable {
  readonly measurements: readonly Measurement[];
}

const GROUPS: Readonly<Record<string, () => Promise<Group>>> = {
  line: async () => (await import('./line/group.ts')).lineGroup(),
};
const FEWEST_RUNS = 5;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    runs: { type: 'string', default: String(FEWEST_RUNS) },
    only: { type: 'string' },
  },
});
const makeGroup = GROUPS[positionals[0] ?? ''];
const runs = Number(values.runs);

if (makeGroup === undefined || !Number.isInteger(runs) || runs < 1) {
  process.stderr.write(`usage: npm run bench -- <${Object.keys(GROUPS).join('|')}> [--json] [--runs N] [--only NAME]\n`);
  process.exitCode = 2;
} else {
  const rows = await runGroup(makeGroup, runs);
  process.stdout.write(values.json ? `${JSON.stringify(rows, null, 2)}\n` : `${renderTable(rows)}\n`);
  process.exitCode = rows.every((row) => row.holds) ? 0 : 1;
}

async function runGroup(make: () => Promise<Group>, count: number): Promise<Row[]> {
  await using group = await make();
  const rows: Row[] = [];
  for (const measurement of group.measurements) {
    if (values.only !== undefined && !measurement.name.includes(values.only)) continue;
    process.stderr.write(`${measurement.name}: ${count} runs of each\n`);
    rows.push(await measure(measurement, count));
  }
  return rows;
}
