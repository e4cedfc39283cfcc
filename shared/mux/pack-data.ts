/**
 * The data of one message: a frame of the stream whose turn it is, and of the next one, until the message is as long as it should be.
 *
 * An end cuts its last frame to fit. A relay passes frames on as they came: one that is cut leaves an odd piece in each message after it.
 * Scraps are frames that cost a message more than they bring: none is put behind others, none is left behind for a message of its own.
 */
import { type MuxLimits, SCHEDULER_QUANTUM_BYTES, SCRAP_BYTES, WIRE } from './limits.ts';
import type { Scheduler } from './scheduler.ts';
import type { MuxStream } from './stream.ts';

export interface Message {
  /** What it has already, and `bytes` of it. */
  readonly parts: Uint8Array[];
  readonly bytes: number;
  /** As soon as it is so long, no other frame is added. */
  readonly maxBytes: number;
  /** It gets no longer than that, but for a scrap. */
  readonly mostBytes: number;
  /** What the other side takes. */
  readonly limits: Pick<MuxLimits, 'maxFrameBytes' | 'maxMessageBytes'>;
}

/** A frame as most are. */
const LEFTOVER_BYTES = 16 * 1024;
const PING_BYTES = WIRE.headerBytes + 8;

/** `sparse` data is that of streams that have little to send. Returns how many frames were added, and their bytes. */
export function packData(
  message: Message,
  scheduler: Scheduler<MuxStream>,
  data: 'sparse' | 'all',
): { frames: number; bytes: number } {
  const { parts, maxBytes, limits } = message;
  scheduler.quantumBytes = Math.max(SCHEDULER_QUANTUM_BYTES, maxBytes);
  // A PING may come behind it.
  const takesBytes = limits.maxMessageBytes - PING_BYTES;
  const mostBytes = Math.min(message.mostBytes, takesBytes);
  // What has more has to be cut wherever it goes.
  const longest = Math.min(limits.maxFrameBytes, mostBytes - WIRE.headerBytes);
  let { bytes } = message;
  let frames = 0;
  while (bytes < maxBytes && (bytes === 0 || mostBytes - bytes > SCRAP_BYTES)) {
    const stream = data === 'all' ? scheduler.next() : scheduler.nextSparse();
    const fitting = mostBytes - bytes - WIRE.headerBytes;
    if (stream === undefined || (bytes > 0 && Math.min(stream.uncutBytes, longest) > fitting + SCRAP_BYTES)) break;
    const atMost = Math.min(limits.maxFrameBytes, takesBytes - bytes - WIRE.headerBytes);
    const taken = stream.pull(parts, atMost, fitting);
    scheduler.charge(stream, taken);
    bytes += taken;
    frames += 1;
  }
  return { frames, bytes: bytes - message.bytes };
}

/** All that the streams have for now is less than a frame: behind a message it may as well wait for more. */
export function isLeftover(scheduler: Scheduler<MuxStream>): boolean {
  const stream = scheduler.next();
  return stream !== undefined && scheduler.isLast && stream.queuedBytes < LEFTOVER_BYTES;
}
