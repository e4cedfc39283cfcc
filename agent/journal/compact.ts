/** Making the files smaller: oldest first, what still counts is written anew at the end and the file is removed. */
import type { Entry } from './entries.ts';
import type { Loss } from './recovery.ts';
import type { SegmentLog } from './segment-log.ts';

/** A sealed file is written anew when less than this share of it still counts. */
const COMPACT_BELOW = 0.5;

export interface Compactable {
  readonly log: SegmentLog;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly losses: readonly Loss[];
}

/** `expire` forgets what is too old by now; it is called before each file. */
export async function compact(journal: Compactable, expire: () => void): Promise<void> {
  const { log, entries } = journal;
  for (let oldest = log.oldestSealed; oldest !== undefined; oldest = log.oldestSealed) {
    expire();
    const { number, bytes } = oldest;
    // The damage is what later starts know of the loss.
    if (journal.losses.some(({ segment }) => segment === number)) return;
    const living = [...entries.values()].filter(({ place }) => place.segment === number);
    const livingBytes = living.reduce((sum, { place }) => sum + place.bytes, 0);
    if (livingBytes > bytes * COMPACT_BELOW) return;
    await Promise.all(living.map((entry) => moveToEnd(log, entry)));
    await log.removeOldest();
  }
}

/** Written as it is, so that a copy that a crash leaves beside its original says the same. */
async function moveToEnd(log: SegmentLog, entry: Entry): Promise<void> {
  const { place } = entry;
  const copy = await log.append(await log.read(place));
  // A newer revision may have been written meanwhile.
  if (entry.place === place) entry.place = copy;
}
