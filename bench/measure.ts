/**
 * How a benchmark is measured: our path and its baseline run by turns in the same run, so that a noisy machine is noisy for both, and the
 * medians are compared. A figure without a baseline says nothing here, except where the promise itself is an absolute one.
 */
export interface Measurement {
  readonly name: string;
  readonly unit: string;
  /** How `ours` must stand to `baseline`: at most, or at least, `limit` times. */
  readonly direction: 'at-most' | 'at-least';
  /** `ratio` holds ours/baseline against the limit; `absolute` holds ours itself and shows the baseline for comparison. */
  readonly kind: 'ratio' | 'absolute';
  readonly limit: number;
  readonly ours: () => Promise<number>;
  readonly baseline: () => Promise<number>;
}

/** One row of the report, the same in every group. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly baseline: number;
  readonly ratio: number;
  readonly limit: number;
  readonly holds: boolean;
}

export async function measure(measurement: Measurement, runs: number): Promise<Row> {
  const ours: number[] = [];
  const baseline: number[] = [];
  for (let run = 0; run < runs; run++) {
    // Who goes first alternates, so that what the first leaves behind (caches, clock speed) favours neither.
    const order = run % 2 === 0 ? (['ours', 'baseline'] as const) : (['baseline', 'ours'] as const);
    for (const side of order) (side === 'ours' ? ours : baseline).push(await measurement[side]());
  }
  const [our, base] = [median(ours), median(baseline)];
  const ratio = our / base;
  const judged = measurement.kind === 'ratio' ? ratio : our;
  const holds = measurement.direction === 'at-most' ? judged <= measurement.limit : judged >= measurement.limit;
  return {
    name: measurement.name,
    unit: measurement.unit,
    ours: round(our),
    baseline: round(base),
    ratio: round(ratio),
    limit: measurement.limit,
    holds,
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  // SAFETY: every caller measures at least once, so both indices exist.
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

export function renderTable(rows: readonly Row[]): string {
  const header = ['measure', 'unit', 'ours', 'baseline', 'ratio', 'limit', 'holds'];
  const lines = rows.map((row) =>
    [row.name, row.unit, row.ours, row.baseline, row.ratio, row.limit, row.holds ? 'yes' : 'NO'].map(String),
  );
  const widths = header.map((title, index) => Math.max(title.length, ...lines.map((line) => line[index]?.length ?? 0)));
  return [header, ...lines]
    .map((line) =>
      line
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
