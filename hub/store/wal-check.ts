/**
 * Looks whether the write-ahead log that a hub left behind is whole, before SQLite takes it over (sqlite.org/fileformat2.html, section 4).
 *
 * SQLite reads a log up to the first frame whose checksum is wrong and drops the rest without a word: after a crash that is the end of a write
 * that nobody was told of. It is something else where a further transaction goes on behind it: that was begun when all before it had been
 * synced, so that what is wrong was sound once, and all from there on was acknowledged. What is left of transactions that failed, and were
 * written over by shorter ones, does not go on so: sums run on from one frame to the next.
 *
 *     header  magic | version | page size | sequence | salt 1 | salt 2 | sum 1 | sum 2         each u32, big-endian
 *     frame   page | pages after commit, or 0 | salt 1 | salt 2 | sum 1 | sum 2 | the page      sums go on from frame to frame
 *
 * Of the last transaction alone, damage and a write that was cut short look alike.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { endianness } from 'node:os';
import { FairleadError } from '../../shared/errors.ts';

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** The last bit says in which order of bytes the sums are made. */
const MAGIC = 0x377f0682;
const BIG_ENDIAN_SUMS = 1;
const IS_LITTLE = endianness() === 'LE';

type Sums = readonly [number, number];

/** @throws FairleadError STORAGE_FAILED */
export function requireWholeLog(path: string): void {
  const logPath = `${path}-wal`;
  if (!existsSync(logPath)) return;
  const bytes = readWhole(logPath);
  const damagedAt = damageIn(bytes);
  if (damagedAt === undefined) return;
  throw new FairleadError(
    'STORAGE_FAILED',
    `store ${path} is damaged: its write-ahead log ${logPath} is not what was written, from byte ${damagedAt} of ${bytes.length} on, and what ` +
      'was answered after that would be lost: start from a backup (restoreFrom), or move that file aside to go on without all that is in it',
  );
}

/** Where the first frame lies that is wrong though others were written behind it. */
export function damageIn(log: Buffer): number | undefined {
  if (log.length < HEADER_BYTES) return undefined;
  const magic = log.readUInt32BE(0);
  const pageBytes = log.readUInt32BE(8);
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  const isHeader = (magic & ~BIG_ENDIAN_SUMS) === MAGIC && pageBytes >= 512 && pageBytes <= 65_536;
  const isLittle = (magic & BIG_ENDIAN_SUMS) === 0;
  let sums = isHeader ? sumOf(log, 0, HEADER_BYTES - 8, [0, 0], isLittle) : undefined;
  // The header is synced before the first commit behind it is.
  if (sums === undefined || !isSum(log, HEADER_BYTES - 8, sums)) return log.subarray(HEADER_BYTES).some(Boolean) ? 0 : undefined;
  const salts = log.subarray(16, 24);
  const isFrame = (at: number): boolean => at + frameBytes <= log.length && log.subarray(at + 8, at + 16).equals(salts);
  const sumsAfter = (at: number, before: Sums): Sums =>
    sumOf(log, at + FRAME_HEADER_BYTES, pageBytes, sumOf(log, at, 8, before, isLittle), isLittle);
  const goesOn = (at: number, before: Sums): boolean => isFrame(at) && isSum(log, at + 16, sumsAfter(at, before));
  const isCommit = (at: number): boolean => log.readUInt32BE(at + 4) !== 0;

  let wrongAt = HEADER_BYTES;
  for (; goesOn(wrongAt, sums); wrongAt += frameBytes) sums = storedSums(log, wrongAt + 16);
  if (wrongAt + frameBytes > log.length) return undefined;
  // The sums themselves may be what has been hit.
  if (isCommit(wrongAt) && goesOn(wrongAt + frameBytes, sumsAfter(wrongAt, sums))) return wrongAt;
  for (let at = wrongAt; at + frameBytes <= log.length; at += frameBytes) {
    if (isFrame(at) && isCommit(at) && goesOn(at + frameBytes, storedSums(log, at + 16))) return wrongAt;
  }
  return undefined;
}

function storedSums(log: Buffer, at: number): Sums {
  return [log.readUInt32BE(at), log.readUInt32BE(at + 4)];
}

/** The two running sums over `bytes` bytes, eight at a time. */
function sumOf(log: Buffer, from: number, bytes: number, [first, second]: Sums, isLittle: boolean): Sums {
  let one = first;
  let two = second;
  const words = wordsAt(log, from, bytes);
  const isSwapped = isLittle !== IS_LITTLE;
  for (let index = 0; index + 1 < words.length; index += 2) {
    // SAFETY: both are within the length.
    const a = words[index] as number;
    const b = words[index + 1] as number;
    one = (one + (isSwapped ? swap(a) : a) + two) >>> 0;
    two = (two + (isSwapped ? swap(b) : b) + one) >>> 0;
  }
  return [one, two];
}

/** Frames lie at multiples of eight bytes in a log that was read into memory of its own. */
function wordsAt(log: Buffer, from: number, bytes: number): Uint32Array {
  return new Uint32Array(log.buffer, log.byteOffset + from, bytes / 4);
}

function swap(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

function isSum(log: Buffer, at: number, [one, two]: Sums): boolean {
  const [first, second] = storedSums(log, at);
  return first === one && second === two;
}

function readWhole(path: string): Buffer {
  const descriptor = openSync(path, 'r');
  try {
    const { size } = fstatSync(descriptor);
    // Not of the pool: its words are read in place.
    const bytes = Buffer.allocUnsafeSlow(size);
    let done = 0;
    while (done < size) {
      const read = readSync(descriptor, bytes, done, size - done, done);
      if (read === 0) break;
      done += read;
    }
    return bytes.subarray(0, done);
  } finally {
    closeSync(descriptor);
  }
}
