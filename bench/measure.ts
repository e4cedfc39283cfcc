/**
 * How a benchmark is measured: our path and its baseline run by turns in the same run, so that a noisy machine is noisy for both, and the
 * medians are compared. A figure without a baseline says nothing here, except where the promise itself is an absolute one.
 */
export interface Promised {
  /** How `ours` must stand to `baseline`: at most, or at least, `limit` times. */
  readonly direction: 'at-most' | 'at-least';
  /** `ratio` holds ours/baseline against the limit; `absolute` holds ours itself and shows the baseline for comparison. */
  readonly kind: 'ratio' | 'absolute';
  readonly limit: number;
}

export interface Measurement extends Promised {
  readonly name: string;
  readonly unit: string;
  /** Runs for each that is asked for: more than one where a run is short and varies much. */
  readonly runsEach?: number;
  /** Starts what both sides need and warms both up. Disposing takes all of it down, also in the middle of a run. */
  readonly prepare: () => Promise<Sides>;
}

/** Each call is one run and resolves with its figure, in the measurement's unit. */
export interface Sides extends AsyncDisposable {
  ours(): Promise<number>;
  baseline(): Promise<number>;
}

/** One row of the report, the same in every group. NaN where there is none; JSON says null. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly baseline: number;
  readonly ratio: number;
  readonly limit: number;
  readonly holds: boolean;
  /** Of a contest: the figures of the others, which are not judged. */
  readonly peers?: Readonly<Record<string, number>>;
  /** Of a contest: who failed the work, and how. */
  readonly fails?: Readonly<Record<string, string>>;
}

/** Rejects with the signal's reason when that fires, after everything has been taken down. */
export async function measure(
  measurement: Measurement,
  { runs, signal }: { readonly runs: number; readonly signal?: AbortSignal },
): Promise<Row> {
  signal?.throwIfAborted();
  await using sides = await measurement.prepare();
  const figures: Record<'ours' | 'baseline', number[]> = { ours: [], baseline: [] };
  for (let run = 0; run < runs * (measurement.runsEach ?? 1); run++) {
    for (const side of orderOf(run)) figures[side].push(await unlessAborted(sides[side](), signal));
  }
  return judge(measurement, median(figures.ours), median(figures.baseline));
}

/** Who goes first alternates, so that what the first leaves behind (caches, clock speed) favours neither. */
function orderOf(run: number): readonly ('ours' | 'baseline')[] {
  return run % 2 === 0 ? ['ours', 'baseline'] : ['baseline', 'ours'];
}

function judge(measurement: Measurement, ours: number, baseline: number): Row {
  const { name, unit, kind, limit } = measurement;
  const ratio = ours / baseline;
  const holds = isKept(measurement, kind === 'ratio' ? ratio : ours);
  return { name, unit, ours: round(ours), baseline: round(baseline), ratio: round(ratio), limit, holds };
}

/** False of NaN. */
export function isKept({ direction, limit }: Promised, judged: number): boolean {
  return direction === 'at-most' ? judged <= limit : judged >= limit;
}

/** NaN of no values. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return low === undefined || high === undefined ? Number.NaN : (low + high) / 2;
}

/** The run that is under way is left to itself: taking the sides down ends it. */
export async function unlessAborted<T>(run: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return run;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  run.catch(() => {});
  try {
    signal.throwIfAborted();
    return await Promise.race([run, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

export function round(value: number): number {
  return Number(value.toPrecision(4));
}
