/**
 * Room in a full journal. In this order: what is older than a day goes, what was refused without an effect, and then the oldest of what
 * has ended (forgetting.ts) until an eighth is free, so that this is seldom done. Before they are forgotten it is durably noted up to when
 * (gone.ts). What is under way stays, whatever the limits say.
 *
 * The files shrink only as they are written anew, so of their bytes a quarter may no longer count: with fewer that do, one look at each
 * file frees an eighth.
 */
import { type Compactable, compact } from './compact.ts';
import { type Entry, forgetRefused } from './entries.ts';
import { chooseToForget } from './forgetting.ts';
import type { Forgotten } from './gone.ts';

export interface RoomLimits {
  readonly maxOperations: number;
  readonly maxBytes: number;
}

interface Full extends Compactable {
  readonly entries: Map<string, Entry>;
}

export interface RoomOptions {
  readonly limits: RoomLimits;
  /** Accepted, and not in `entries` yet. */
  readonly accepting: () => number;
  readonly now: () => number;
  readonly expire: () => void;
  readonly forgot: (entries: readonly Entry[], forgotten: Forgotten) => void;
}

/** Whether there is more of it than before. @throws FairleadError JOURNAL_FAILED, and what the file system throws. */
export async function makeRoom(journal: Full, options: RoomOptions): Promise<boolean> {
  const { entries, log } = journal;
  const { limits, now, expire } = options;
  const before = { operations: entries.size, bytes: log.bytes };
  expire();
  forgetRefused(entries);
  const chosen = tooMany(journal, options);
  const hasLeft = entries.size < before.operations || chosen.length > 0;
  await forget(journal, chosen, options);
  if (log.bytes >= limits.maxBytes) await compact(journal, { now, expire, downToBytes: limits.maxBytes * (7 / 8) });
  return hasLeft || log.bytes < before.bytes;
}

/** Durable before they are forgotten; what began anew meanwhile stays. */
async function forget({ log, entries, gone }: Full, chosen: readonly Entry[], { now, forgot }: RoomOptions): Promise<void> {
  if (chosen.length === 0) return;
  const forgotten = gone.including(chosen, now());
  const place = await log.append(Buffer.from(JSON.stringify({ at: now(), kind: 'forgotten', ...forgotten })));
  gone.noted(forgotten, place);
  const left = chosen.filter((entry) => entry.summary.endedAt !== undefined && entries.get(entry.summary.id) === entry);
  for (const { summary } of left) entries.delete(summary.id);
  forgot(left, forgotten);
}

function tooMany({ entries, log }: Full, { limits: { maxOperations, maxBytes }, accepting }: RoomOptions): Entry[] {
  const used = entries.size + accepting();
  const goal = Math.min(maxOperations - 1, Math.floor(maxOperations * (7 / 8)));
  const forOperations = used >= maxOperations ? chooseToForget(entries.values(), used - goal, () => 1) : [];
  if (log.bytes < maxBytes) return forOperations;
  const gone = new Set(forOperations);
  const rest = [...entries.values()].filter((entry) => !gone.has(entry));
  const excessBytes = rest.reduce((sum, { place }) => sum + place.bytes, 0) - maxBytes * (3 / 4);
  return [...forOperations, ...chooseToForget(rest, excessBytes, ({ place }) => place.bytes)];
}
