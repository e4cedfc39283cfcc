/**
 * A contest: the same work done by ours, by a baseline and by peers, by turns in the same run. One bout of a contender gives several
 * figures, each of which becomes a row; the medians are compared.
 *
 * A contender that fails the work is out of the contest and is shown as failing, with how. A row holds when ours stands to the baseline,
 * or by itself, as its figure says; a figure without a limit is there to be seen. Peers only stand beside.
 */
import { isKept, median, type Promised, type Row, round, unlessAborted } from './measure.ts';

export interface Figure {
  /** The row's. */
  readonly name: string;
  /** What it is called in what a bout gives. */
  readonly key: string;
  readonly unit: string;
  readonly promise?: Promised;
}

/** Figures by their keys; one that is missing cannot be had of this contender. */
export type Figures = Readonly<Record<string, number>>;

/** Who takes part; `ours` and `baseline` are judged. Disposing takes everything down, also in the middle of a bout. */
export interface Contenders extends AsyncDisposable {
  readonly bouts: Readonly<Record<string, () => Promise<Figures>>>;
}

export interface Contest {
  readonly name: string;
  readonly figures: readonly Figure[];
  /** Starts all that take part and warms them up. */
  readonly prepare: (takesPart: TakesPart) => Promise<Contenders>;
}

export type TakesPart = (contender: string) => boolean;

interface Standing {
  readonly figures: Figures[];
  fails?: string;
}

/** `among`: who takes part, everybody if it is empty. Rejects with the signal's reason when that fires, after everybody has been taken down. */
export async function hold(
  contest: Contest,
  { runs, among = [], signal }: { readonly runs: number; readonly among?: readonly string[]; readonly signal: AbortSignal },
): Promise<Row[]> {
  signal.throwIfAborted();
  const standings = new Map<string, Standing>();
  try {
    await using contenders = await contest.prepare((name) => among.length === 0 || among.includes(name));
    const bouts = Object.entries(contenders.bouts);
    for (const [name] of bouts) standings.set(name, { figures: [] });
    for (let run = 0; run < runs; run++) {
      // Who goes first alternates, so that what is left behind favours nobody.
      for (const [name, bout] of run % 2 === 0 ? bouts : bouts.toReversed()) {
        await fight(standingOf(standings, name), bout, signal);
      }
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    standings.set('ours', { figures: [], fails: `not measured: ${messageOf(error)}` });
  }
  return contest.figures.map((figure) => judge(figure, standings));
}

async function fight(standing: Standing, bout: () => Promise<Figures>, signal: AbortSignal): Promise<void> {
  if (standing.fails !== undefined) return;
  try {
    standing.figures.push(await unlessAborted(bout(), signal));
  } catch (error) {
    signal.throwIfAborted();
    standing.fails = messageOf(error);
  }
}

function standingOf(standings: Map<string, Standing>, name: string): Standing {
  const standing = standings.get(name);
  if (standing === undefined) throw new Error(`there is no contender ${name}`);
  return standing;
}

function judge({ name, key, unit, promise }: Figure, standings: ReadonlyMap<string, Standing>): Row {
  const figures = new Map([...standings].map(([contender, standing]) => [contender, figureOf(standing, key)]));
  const { ours = Number.NaN, baseline = Number.NaN, ...peers } = Object.fromEntries(figures);
  const ratio = ours / baseline;
  return {
    name,
    unit,
    ours,
    baseline,
    ratio: round(ratio),
    limit: promise?.limit ?? Number.NaN,
    holds: promise === undefined ? !Number.isNaN(ours) : isKept(promise, promise.kind === 'ratio' ? ratio : ours),
    peers,
    fails: Object.fromEntries(
      [...standings].flatMap(([contender, { fails }]) => (fails === undefined ? [] : [[contender, fails]])),
    ),
  };
}

/** NaN of a contender that failed, or that the figure does not apply to. */
function figureOf({ figures, fails }: Standing, key: string): number {
  return fails === undefined ? round(median(figures.flatMap((of) => of[key] ?? []))) : Number.NaN;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
