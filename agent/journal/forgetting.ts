/**
 * Which commands leave a full journal before their day is over: only such as have ended. Those of whoever has the most go first, so that a
 * noisy actor forgets its own and nobody else's; and of one actor the oldest, by what their ids say of it, so that "forgotten up to" lies
 * as far back as it can. Ids that tell no time go last: once one of them is forgotten, no new one of that kind can be told from it. Ids of a time
 * to come stay: with one of them forgotten, every other command until then would have to be refused. So there may be only so many (journal.ts).
 */
import { timeOfCommandId } from '../../shared/command-id.ts';
import type { Entry } from './entries.ts';

/** In what a journal is full: commands, or bytes. */
export type Measure = (entry: Entry) => number;

/** Of one actor. */
interface Share {
  used: number;
  /** May go; the first to go is the last of them. */
  readonly ended: Entry[];
}

/** As few as make up `excess`, or all that may go. */
export function chooseToForget(entries: Iterable<Entry>, excess: number, measure: Measure): Entry[] {
  const shares = [...Map.groupBy(entries, ({ summary }) => summary.actor).values()].map((all) => shareOf(all, measure));
  const chosen: Entry[] = [];
  for (let rest = excess; rest > 0; ) {
    const most = greatest(shares.filter(({ ended }) => ended.length > 0));
    const entry = most?.ended.pop();
    if (most === undefined || entry === undefined) break;
    most.used -= measure(entry);
    rest -= measure(entry);
    chosen.push(entry);
  }
  return chosen;
}

function shareOf(entries: readonly Entry[], measure: Measure): Share {
  // Oldest last here already, for those of one millisecond.
  const ended = entries.filter(({ summary, isAhead }) => summary.endedAt !== undefined && !isAhead).toReversed();
  const ages = new Map(ended.map((entry) => [entry, timeOfCommandId(entry.summary.id) ?? Number.POSITIVE_INFINITY]));
  const byAge = (a: Entry, b: Entry): number => {
    const [ageOfA = 0, ageOfB = 0] = [ages.get(a), ages.get(b)];
    return ageOfA === ageOfB ? compareText(b.summary.acceptedAt, a.summary.acceptedAt) : ageOfB - ageOfA;
  };
  return { used: entries.reduce((sum, entry) => sum + measure(entry), 0), ended: ended.sort(byAge) };
}

function greatest(shares: readonly Share[]): Share | undefined {
  return shares.reduce<Share | undefined>(
    (most, share) => (most === undefined || share.used > most.used ? share : most),
    undefined,
  );
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
