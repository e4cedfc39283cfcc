/**
 * RESUME: what a side holds of a stream, said on a new line or when the other end's line was new.
 *
 *     u32 stream id | u32 state | u32 round | u32 0 | u64 received | u64 acked | u64 limit | 16 bytes key
 *
 * An entry is a barrier in its direction: whatever its sender sent before and the receiver has not got by now is void, and nothing follows
 * until the receiver has answered with an entry of the same round. See stream.ts.
 */
import { FLAG, FRAME, type Frame, newFrame, violation } from './frame.ts';
import { RESUME_ENTRIES_A_FRAME, WIRE } from './limits.ts';
import { readKey, readU32, readU64, type StreamKey, writeKey, writeU32, writeU64 } from './numbers.ts';
import type { Credit } from './payload.ts';

/** State bits of an entry; they mean what the flags of WINDOW mean. */
const STATE = { END: 0x01, DONE: 0x02 } as const;

export interface ResumeEntry extends Credit {
  /** Rises with each line that either end is on: of two entries the one of the higher round counts. */
  readonly round: number;
  /** Offset from which the other side sends on. */
  readonly received: number;
  readonly key: StreamKey;
}

export interface ListedEntry extends ResumeEntry {
  readonly streamId: number;
}

export function writeResume(entries: readonly ListedEntry[], more: boolean): Uint8Array {
  const frame = newFrame(FRAME.RESUME, more ? FLAG.MORE : 0, entries.length * WIRE.resumeEntryBytes, 0);
  entries.forEach((entry, index) => {
    const at = WIRE.headerBytes + index * WIRE.resumeEntryBytes;
    writeU32(frame, at, entry.streamId);
    writeU32(frame, at + 4, (entry.end ? STATE.END : 0) | (entry.done ? STATE.DONE : 0));
    writeU32(frame, at + 8, entry.round);
    writeU64(frame, at + 16, entry.received);
    writeU64(frame, at + 24, entry.acked);
    writeU64(frame, at + 32, entry.limit);
    writeKey(frame, at + 40, entry.key);
  });
  return frame;
}

/** All that a side holds, as frames that fit into messages of `maxMessageBytes`. */
export function writeResumes(entries: readonly ListedEntry[], maxMessageBytes: number): Uint8Array[] {
  const fitting = Math.floor((maxMessageBytes - WIRE.headerBytes) / WIRE.resumeEntryBytes);
  const most = Math.min(RESUME_ENTRIES_A_FRAME, fitting);
  const frames: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < entries.length; at += most) {
    frames.push(writeResume(entries.slice(at, at + most), at + most < entries.length));
  }
  return frames;
}

export function readResume(frame: Frame): ListedEntry[] {
  const { payload, offset } = frame;
  if (payload.length % WIRE.resumeEntryBytes !== 0) {
    throw violation('RESUME', offset, `has ${payload.length} payload bytes, no multiple of ${WIRE.resumeEntryBytes}`);
  }
  const entries: ListedEntry[] = [];
  for (let at = 0; at < payload.length; at += WIRE.resumeEntryBytes) {
    const wrong = (text: string) => violation('RESUME', offset, `has ${text} in entry ${entries.length}`);
    const state = readU32(frame, at + 4);
    if ((state & ~(STATE.END | STATE.DONE)) !== 0 || readU32(frame, at + 12) !== 0) throw wrong('reserved bits');
    const entry: ListedEntry = {
      streamId: readU32(frame, at),
      end: (state & STATE.END) !== 0,
      done: (state & STATE.DONE) !== 0,
      round: readU32(frame, at + 8),
      received: readU64(frame, at + 16),
      acked: readU64(frame, at + 24),
      limit: readU64(frame, at + 32),
      key: readKey(frame, at + 40),
    };
    if (entry.streamId === 0) throw wrong('no stream id');
    if (entry.round === 0) throw wrong('no round');
    const isInOrder = entry.acked <= entry.received && entry.received <= entry.limit;
    if (!isInOrder || entry.limit - entry.acked > WIRE.maxWindowBytes) throw wrong('offsets that cannot be');
    entries.push(entry);
  }
  return entries;
}
