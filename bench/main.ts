/**
 * `npm run bench -- GROUP [--json] [--runs N] [--only TEXT] [--among NAMES]`: the promises that are about speed and size, each against its baseline.
 *
 * Rows on standard output, talk on standard error. Exit codes: 0 all rows hold, 1 one does not or could not be measured, 2 wrong use,
 * 130 interrupted; whichever it is, everything that was started is taken down first.
 */
import { parseArgs } from 'node:util';
import { type Contest, hold } from './contest.ts';
import { type Measurement, measure, type Row } from './measure.ts';
import { renderTable } from './table.ts';

/** The measurements of a group, and what they have in common, which disposing takes down. */
export interface Group extends AsyncDisposable {
  readonly measurements: readonly (Measurement | Contest)[];
  /** Rows that follow from the others. */
  readonly conclude?: (rows: readonly Row[]) => readonly Row[];
}

interface Options {
  readonly group: () => Promise<Group>;
  readonly json: boolean;
  readonly runs: number;
  /** Text that the names of the measurements to take contain. */
  readonly only: string;
  /** Contenders of a contest that take part, all of them when there is none. */
  readonly among: readonly string[];
}

const GROUPS: Readonly<Record<string, () => Promise<Group>>> = {
  line: async () => (await import('./line/group.ts')).lineGroup(),
  streams: async () => (await import('./streams/group.ts')).streamsGroup(),
  snapshot: async () => (await import('./snapshot/group.ts')).snapshotGroup(),
  fleet: async () => (await import('./fleet/group.ts')).fleetGroup(),
  store: async () => (await import('./store/group.ts')).storeGroup(),
};
const FEWEST_RUNS = 5;
const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (options === undefined) {
    process.stderr.write(
      `usage: npm run bench -- ${Object.keys(GROUPS).join('|')} [--json] [--runs N] [--only TEXT] [--among NAMES]\n`,
    );
    return EXIT.usage;
  }
  const signal = interruption();
  try {
    const rows = await runGroup(options, signal);
    process.stdout.write(options.json ? `${JSON.stringify(rows, null, 2)}\n` : `${renderTable(rows)}\n`);
    return rows.every((row) => row.holds) ? EXIT.ok : EXIT.failed;
  } catch (error) {
    if (signal.aborted) return EXIT.interrupted;
    process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return EXIT.failed;
  }
}

async function runGroup({ group: makeGroup, runs, only, among }: Options, signal: AbortSignal): Promise<Row[]> {
  await using group = await makeGroup();
  const chosen = group.measurements.filter(({ name }) => name.includes(only));
  if (chosen.length === 0) throw new Error(`no row's name contains '${only}'`);
  const rows: Row[] = [];
  for (const measurement of chosen) {
    const isContest = 'figures' in measurement;
    const times = isContest ? 1 : (measurement.runsEach ?? 1);
    process.stderr.write(`${measurement.name}: ${runs * times} runs of each\n`);
    if (isContest) rows.push(...(await hold(measurement, { runs, among, signal })));
    else rows.push(await measure(measurement, { runs, signal }));
  }
  return [...rows, ...(group.conclude?.(rows) ?? [])];
}

function readOptions(argv: readonly string[]): Options | undefined {
  try {
    const { positionals, values } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        runs: { type: 'string', default: String(FEWEST_RUNS) },
        only: { type: 'string', default: '' },
        among: { type: 'string', default: '' },
      },
    });
    const [name = '', ...rest] = positionals;
    const group = Object.hasOwn(GROUPS, name) ? GROUPS[name] : undefined;
    const runs = Number(values.runs);
    if (group === undefined || rest.length > 0 || !Number.isInteger(runs) || runs < 1) return undefined;
    return { group, json: values.json, runs, only: values.only, among: values.among.split(',').filter((of) => of !== '') };
  } catch {
    return undefined;
  }
}

/** Fires at the first signal; the second does not wait for what is being taken down. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(EXIT.interrupted);
      process.stderr.write('interrupted: taking everything down\n');
      controller.abort(new Error(`interrupted by ${name}`));
    });
  }
  return controller.signal;
}
