/**
 * What the files of a journal say when they are read again. No damage stops this: each is told with the stretch of time that its records
 * may be of, and what lies behind it is read like the rest.
 *
 * The first record of each file says how long the file before it was when that was left for good. Below that length everything was
 * durable, so whatever cannot be read there is a loss; beyond it lies what a write left that failed. In the last file, which nothing
 * vouches for, an unfinished end is what a crash leaves of a write that nobody was told of; it is cut.
 */
import { FairleadError } from '../../shared/errors.ts';
import { type Damage, type Frame, scanFrames } from './frame.ts';

/** Version of the format that is written here, and the newest that is read. */
export const FORMAT = 1;

export interface Place {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: number;
}

export interface StoredRecord {
  readonly place: Place;
  readonly kind: string;
  /** The JSON object as it was written. */
  readonly value: Readonly<Record<string, unknown>>;
}

/** Records that were durable may have been there. */
export interface Loss {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: number;
  /** They were written from here to there, unix milliseconds. */
  readonly fromMs: number;
  readonly toMs: number;
}

export interface RecoveredSegment {
  readonly number: number;
  /** To here it can be read; the next record of the last one goes here. */
  readonly bytes: number;
  /** Cut off at the end. */
  readonly tornBytes: number;
}

export interface Recovered {
  /** Oldest first; without files that hold nothing. */
  readonly segments: readonly RecoveredSegment[];
  readonly records: readonly StoredRecord[];
  readonly losses: readonly Loss[];
}

export interface SegmentImage {
  readonly number: number;
  readonly file: Buffer;
}

interface ReadSegment {
  readonly number: number;
  readonly records: readonly StoredRecord[];
  readonly damages: readonly Damage[];
  readonly bytes: number;
  readonly isLast: boolean;
}

/** How long a file was when the next one was begun. */
interface Sealed {
  readonly number: number;
  readonly bytes: number;
}

/** `images` by number, oldest first. @throws FairleadError UNSUPPORTED for a format that a newer agent wrote. */
export function recover(images: readonly SegmentImage[], nowMs: number): Recovered {
  const read: ReadSegment[] = [];
  let sealed: Sealed | undefined;
  // From the newest to the oldest, since each file says how long the one before it was.
  for (const [index, image] of images.entries().toArray().toReversed()) {
    const sealedBytes = sealed?.number === image.number ? sealed.bytes : undefined;
    const segment = readSegment(image, sealedBytes, index === images.length - 1);
    sealed = sealedBefore(segment);
    if (segment.records.length > 0 || segment.damages.some(({ kind }) => kind === 'damaged')) read.unshift(segment);
  }
  const segments = read.map(({ number, bytes, damages, isLast }) => ({
    number,
    bytes: bytes - tornBytesOf(damages, isLast),
    tornBytes: tornBytesOf(damages, isLast),
  }));
  return { segments, records: read.flatMap(({ records }) => records), losses: lossesIn(read, nowMs) };
}

function readSegment({ number, file }: SegmentImage, sealedBytes: number | undefined, isLast: boolean): ReadSegment {
  const bytes = sealedBytes ?? file.length;
  const { frames, damages } = scanFrames(file.subarray(0, bytes));
  const records: StoredRecord[] = [];
  const unread: Damage[] = [...damages];
  for (const frame of frames) {
    const record = readRecord(number, frame);
    if (record === undefined) unread.push({ offset: frame.offset, bytes: frame.bytes, kind: 'damaged' });
    else records.push(record);
  }
  if (file.length < bytes) unread.push({ offset: file.length, bytes: bytes - file.length, kind: 'damaged' });
  return { number, records, damages: unread.toSorted((a, b) => a.offset - b.offset), bytes, isLast };
}

function readRecord(segment: number, { offset, bytes, payload }: Frame): StoredRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  // SAFETY: an object out of JSON.parse has string keys; each value is looked at by whoever needs it.
  const record = value as Record<string, unknown>;
  if (typeof record['kind'] !== 'string' || typeof record['at'] !== 'number') return undefined;
  return { place: { segment, offset, bytes }, kind: record['kind'], value: record };
}

/** @throws FairleadError UNSUPPORTED */
function sealedBefore({ number, records }: ReadSegment): Sealed | undefined {
  const [first] = records;
  if (first?.kind !== 'segment') return undefined;
  const { format, previousBytes } = first.value;
  if (format !== FORMAT) {
    const message = `the journal of commands is of format ${String(format)} (segment ${number}) and this agent reads format ${FORMAT}`;
    throw new FairleadError('UNSUPPORTED', `${message}: run the agent that wrote it, or a newer one`);
  }
  return typeof previousBytes === 'number' ? { number: number - 1, bytes: previousBytes } : undefined;
}

/** Only at the end of the last file; elsewhere the end was durable once. */
function tornBytesOf(damages: readonly Damage[], isLast: boolean): number {
  const last = damages.at(-1);
  return isLast && last?.kind === 'torn' ? last.bytes : 0;
}

function lossesIn(segments: readonly ReadSegment[], nowMs: number): Loss[] {
  const losses: Loss[] = [];
  const times = segments.flatMap(({ number, records }) =>
    records.map(({ place, value }) => ({ segment: number, offset: place.offset, atMs: Number(value['at']) })),
  );
  const add = (segment: number, offset: number, bytes: number): void => {
    const isBefore = (time: { segment: number; offset: number }) =>
      time.segment < segment || (time.segment === segment && time.offset < offset);
    const fromMs = times.findLast(isBefore)?.atMs ?? 0;
    const toMs = times.find((time) => !isBefore(time))?.atMs ?? nowMs;
    losses.push({ segment, offset, bytes, fromMs, toMs });
  };
  for (const [index, { number, damages, isLast }] of segments.entries()) {
    const before = segments[index - 1]?.number;
    if (before !== undefined && number > before + 1) add(number, 0, 0);
    for (const { offset, bytes, kind } of damages) if (kind === 'damaged' || !isLast) add(number, offset, bytes);
  }
  return losses;
}
