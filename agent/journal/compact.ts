/** Making the files smaller: oldest first, what still counts is written anew at the end and the file is removed. */
import type { Entry } from './entries.ts';
import type { Gone, Note } from './gone.ts';
import type { SegmentLog } from './segment-log.ts';

/** A sealed file is written anew when less than this share of it still counts. */
const COMPACT_BELOW = 0.5;

export interface Compactable {
  readonly log: SegmentLog;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly gone: Gone;
}

export interface CompactOptions {
  /** Unix milliseconds. */
  readonly now: () => number;
  /** Forgets what is too old by now; it is called before each file. */
  readonly expire: () => void;
  /** While the files have more bytes than this, one of which most still counts is written anew too. */
  readonly downToBytes?: number | undefined;
}

/** Looks at each file at most once. @throws FairleadError JOURNAL_FAILED, and what the file system throws. */
export async function compact(journal: Compactable, options: CompactOptions): Promise<void> {
  const { log, entries, gone } = journal;
  const { now, expire, downToBytes = Number.POSITIVE_INFINITY } = options;
  const { newest } = log;
  for (let oldest = log.oldestSealed; oldest !== undefined && oldest.number <= newest; oldest = log.oldestSealed) {
    expire();
    const { number, bytes } = oldest;
    const living = [...entries].filter(([, { place }]) => place.segment === number);
    const livingBytes = living.reduce((sum, [, { place }]) => sum + place.bytes, 0);
    if (livingBytes > bytes * COMPACT_BELOW && log.bytes <= downToBytes) return;
    await Promise.all([
      ...living.map(([id]) => moveToEnd(journal, id, now)),
      ...gone.notesIn(number).map((note) => writeNote(log, note, now)),
    ]);
    await log.removeOldest();
  }
}

/**
 * The copy differs in its time alone, so that one that a crash leaves beside its original says the same, and times in a file never go back.
 * A newer revision that is written meanwhile may lie before the copy, so it is copied too: files go oldest first, and an older record must
 * not be the last that is left of a command.
 */
async function moveToEnd({ log, entries }: Compactable, id: string, now: () => number): Promise<void> {
  for (let entry = entries.get(id); entry !== undefined; entry = entries.get(id)) {
    const { place } = entry;
    const copy = await log.append(withTime(await log.read(place), now()));
    if (entries.get(id)?.place !== place) continue;
    entry.place = copy;
    return;
  }
}

async function writeNote(log: SegmentLog, note: Note, now: () => number): Promise<void> {
  note.place = await log.append(Buffer.from(JSON.stringify({ ...note.value, at: now() })));
}

function withTime(payload: Buffer, at: number): Buffer {
  // SAFETY: what has its checksum was written by an agent, and every record is an object.
  return Buffer.from(JSON.stringify({ ...(JSON.parse(payload.toString('utf8')) as object), at }));
}
