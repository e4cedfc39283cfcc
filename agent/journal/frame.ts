/**
 * How a record lies in a journal file, and how records are found again in one that may be damaged.
 *
 *     u32 length of the payload | u32 CRC-32C of those four bytes and the payload | payload (JSON, UTF-8)      big-endian
 *
 * The checksum covers the length, so that a stretch of zeros is no row of empty records. What does not read as a record is skipped up to
 * the next place that does: damage costs the records that it hit and never those behind them.
 */
import { crc32c } from './crc32c.ts';

const LENGTH_BYTES = 4;
export const HEADER_BYTES = 8;
/** `{}`: the shortest JSON object. */
const MIN_PAYLOAD_BYTES = 2;
/** A longer one is not written, and a length beyond it is damage. */
export const MAX_PAYLOAD_BYTES = 256 * 1024;
/** Every payload is a JSON object: a cheap first test of whether a record can begin at a place. */
const FIRST_PAYLOAD_BYTE = '{'.charCodeAt(0);

export interface Frame {
  readonly offset: number;
  /** Of header and payload. */
  readonly bytes: number;
  readonly payload: Buffer;
}

export interface Damage {
  readonly offset: number;
  readonly bytes: number;
  /**
   * `torn`: the end of a write that did not get to its end, so nobody was told that it is durable. `damaged`: anything else; records that
   * were durable may have been there.
   */
  readonly kind: 'torn' | 'damaged';
}

export interface Scan {
  /** In order. */
  readonly frames: readonly Frame[];
  /** Between and behind the frames, in order. */
  readonly damages: readonly Damage[];
}

/** @throws RangeError for a payload that no reader would take. */
export function encodeFrame(payload: Uint8Array): Buffer {
  if (payload.length < MIN_PAYLOAD_BYTES || payload.length > MAX_PAYLOAD_BYTES)
    throw new RangeError(`a journal record of ${payload.length} bytes`);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.writeUInt32BE(payload.length, 0);
  frame.set(payload, HEADER_BYTES);
  frame.writeUInt32BE(checksum(frame, payload.length), LENGTH_BYTES);
  return frame;
}

/** Everything that can be read in `file`. Payloads are parts of it, not copies. */
export function scanFrames(file: Buffer): Scan {
  const frames: Frame[] = [];
  const damages: Damage[] = [];
  let offset = 0;
  while (offset < file.length) {
    const frame = frameAt(file, offset);
    if (frame !== undefined) {
      frames.push(frame);
      offset += frame.bytes;
      continue;
    }
    const next = nextFrame(file, offset + 1);
    const end = next ?? file.length;
    const isTorn = next === undefined && isTornAt(file, offset);
    damages.push({ offset, bytes: end - offset, kind: isTorn ? 'torn' : 'damaged' });
    offset = end;
  }
  return { frames, damages };
}

/** The frame that begins there, or undefined when none does that is whole and sound. */
export function frameAt(file: Buffer, offset: number): Frame | undefined {
  if (file.length - offset < HEADER_BYTES + MIN_PAYLOAD_BYTES) return undefined;
  const length = file.readUInt32BE(offset);
  const end = offset + HEADER_BYTES + length;
  if (length < MIN_PAYLOAD_BYTES || length > MAX_PAYLOAD_BYTES || end > file.length) return undefined;
  if (file[offset + HEADER_BYTES] !== FIRST_PAYLOAD_BYTE) return undefined;
  const frame = file.subarray(offset, end);
  if (frame.readUInt32BE(LENGTH_BYTES) !== checksum(frame, length)) return undefined;
  return { offset, bytes: frame.length, payload: frame.subarray(HEADER_BYTES) };
}

function nextFrame(file: Buffer, from: number): number | undefined {
  for (let offset = from; offset < file.length; offset++) {
    if (frameAt(file, offset) !== undefined) return offset;
  }
  return undefined;
}

/**
 * A write that was cut short leaves less than its length says, or, where a file system had given it its place already, zeros. A whole
 * record with a wrong checksum is neither: it may have been durable.
 */
function isTornAt(file: Buffer, offset: number): boolean {
  const rest = file.subarray(offset);
  if (rest.length < HEADER_BYTES || rest.every((byte) => byte === 0)) return true;
  const length = rest.readUInt32BE(0);
  return length >= MIN_PAYLOAD_BYTES && length <= MAX_PAYLOAD_BYTES && HEADER_BYTES + length > rest.length;
}

function checksum(frame: Buffer, payloadBytes: number): number {
  const ofLength = crc32c(frame.subarray(0, LENGTH_BYTES));
  return crc32c(frame.subarray(HEADER_BYTES, HEADER_BYTES + payloadBytes), ofLength);
}
