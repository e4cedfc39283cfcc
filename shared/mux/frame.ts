/**
 * The frame codec: header, the rules of each type, and where in a message a violation was found.
 *
 *      0        1        2                 4                                   8
 *     +--------+--------+-----------------+-----------------------------------+----------- - -
 *     |  type  | flags  |     length      |             stream id             |  payload
 *     +--------+--------+-----------------+-----------------------------------+----------- - -
 *
 * Big-endian. A binary message is one or more whole frames; no frame spans two messages. Payload formats are in payload.ts.
 * Everything here is strict: a flag, type or length that this version does not define is a PROTOCOL_ERROR, since a peer may only use
 * what both HELLOs agree on.
 */
import { FairleadError } from '../errors.ts';
import { WIRE } from './limits.ts';

export const FRAME = {
  HELLO: 0x01,
  OPEN: 0x02,
  OPEN_OK: 0x03,
  OPEN_ERR: 0x04,
  DATA: 0x05,
  WINDOW: 0x06,
  FIN: 0x07,
  RESET: 0x08,
  PING: 0x09,
  PONG: 0x0a,
  GOAWAY: 0x0b,
  RESUME: 0x0c,
} as const;
export type FrameName = keyof typeof FRAME;
export type FrameType = (typeof FRAME)[FrameName];

/** Flags: one bit means one thing on one type. */
export const FLAG = {
  /** DATA: with this frame the sender had used all credit it knew of. A receiver whose reader keeps up may widen the window. */
  EXHAUSTED: 0x01,
  /** WINDOW: your FIN has come, and all of your bytes are consumed. */
  END: 0x01,
  /** WINDOW: I have your END, so I need nothing more of this stream. Who has said and heard it forgets the stream. */
  DONE: 0x02,
  /** RESUME: another RESUME frame follows. */
  MORE: 0x01,
} as const;

interface FrameRule {
  readonly name: FrameName;
  /** Whether it belongs to a stream (id not 0) or to the session (id 0). */
  readonly stream: boolean;
  readonly flags: number;
  readonly minBytes: number;
  readonly maxBytes: number;
}

const { maxMetaBytes, maxReasonBytes, maxHelloBytes, maxPayloadBytes, streamKeyBytes } = WIRE;
const RULES: readonly (FrameRule | undefined)[] = [
  undefined,
  { name: 'HELLO', stream: false, flags: 0, minBytes: 2, maxBytes: maxHelloBytes },
  {
    name: 'OPEN',
    stream: true,
    flags: 0,
    minBytes: 8 + streamKeyBytes + 2,
    maxBytes: 8 + streamKeyBytes + maxMetaBytes,
  },
  { name: 'OPEN_OK', stream: true, flags: 0, minBytes: 10, maxBytes: 8 + maxMetaBytes },
  { name: 'OPEN_ERR', stream: true, flags: 0, minBytes: 2, maxBytes: maxMetaBytes },
  { name: 'DATA', stream: true, flags: FLAG.EXHAUSTED, minBytes: 1, maxBytes: maxPayloadBytes },
  { name: 'WINDOW', stream: true, flags: FLAG.END | FLAG.DONE, minBytes: 16, maxBytes: 16 },
  { name: 'FIN', stream: true, flags: 0, minBytes: 8, maxBytes: 8 },
  { name: 'RESET', stream: true, flags: 0, minBytes: 4, maxBytes: 4 + maxReasonBytes },
  { name: 'PING', stream: false, flags: 0, minBytes: 8, maxBytes: 8 },
  { name: 'PONG', stream: false, flags: 0, minBytes: 8, maxBytes: 8 },
  { name: 'GOAWAY', stream: false, flags: 0, minBytes: 16, maxBytes: 16 + maxMetaBytes },
  { name: 'RESUME', stream: false, flags: FLAG.MORE, minBytes: 0, maxBytes: maxPayloadBytes },
];

export interface Frame {
  readonly type: FrameType;
  readonly flags: number;
  readonly streamId: number;
  /** A view of the message. */
  readonly payload: Uint8Array;
  /** Where in its message the frame begins. */
  readonly offset: number;
}

/** The frame that begins at `offset`; the next one begins `frameBytes` later. Throws PROTOCOL_ERROR. */
export function readFrame(message: Uint8Array, offset: number): Frame {
  const left = message.length - offset;
  if (left < WIRE.headerBytes) throw violation('a frame', offset, `is cut short: ${left} of ${WIRE.headerBytes} header bytes`);
  // SAFETY (each `!`): the eight header bytes are there, just checked; this is the hottest line of a relay.
  const type = message[offset]!;
  const flags = message[offset + 1]!;
  const length = (message[offset + 2]! << 8) | message[offset + 3]!;
  const streamId =
    message[offset + 4]! * 0x100_0000 + ((message[offset + 5]! << 16) | (message[offset + 6]! << 8) | message[offset + 7]!);
  const rule = RULES[type];
  if (rule === undefined) throw violation('a frame', offset, `has the unknown type ${type}`);
  check(rule, flags, streamId, length, offset);
  const start = offset + WIRE.headerBytes;
  if (left - WIRE.headerBytes < length) {
    throw violation(rule.name, offset, `is cut short: ${left - WIRE.headerBytes} of ${length} payload bytes`);
  }
  // SAFETY: RULES has an entry for exactly the types of FRAME.
  return { type: type as FrameType, flags, streamId, payload: message.subarray(start, start + length), offset };
}

export function frameBytes(frame: Frame): number {
  return WIRE.headerBytes + frame.payload.length;
}

export function frameName(type: FrameType): FrameName {
  // SAFETY: RULES has an entry for every type.
  return RULES[type]!.name;
}

function check(rule: FrameRule, flags: number, streamId: number, length: number, offset: number): void {
  if ((flags & ~rule.flags) !== 0) {
    throw violation(rule.name, offset, `has the reserved flags 0x${(flags & ~rule.flags).toString(16).padStart(2, '0')}`);
  }
  if ((streamId !== 0) !== rule.stream) {
    throw violation(
      rule.name,
      offset,
      rule.stream ? 'has no stream id' : `has the stream id ${streamId} but is about the session`,
    );
  }
  if (length < rule.minBytes || length > rule.maxBytes) {
    const range = rule.minBytes === rule.maxBytes ? `${rule.minBytes}` : `${rule.minBytes} to ${rule.maxBytes}`;
    throw violation(rule.name, offset, `has ${length} payload bytes where ${range} are allowed`);
  }
}

/** A header alone, for a payload that is sent as a part of its own. */
export function writeHeader(type: FrameType, flags: number, length: number, streamId: number): Uint8Array {
  const header = new Uint8Array(WIRE.headerBytes);
  fillHeader(header, type, flags, length, streamId);
  return header;
}

/** The whole frame of a payload that is still a view of the message it came in, whose header there nobody needs any more. */
export function rewriteHeader(payload: Uint8Array, type: FrameType, flags: number, streamId: number): Uint8Array {
  const frame = new Uint8Array(payload.buffer, payload.byteOffset - WIRE.headerBytes, WIRE.headerBytes + payload.length);
  fillHeader(frame, type, flags, payload.length, streamId);
  return frame;
}

/** Room for a whole control frame with its header written; the payload begins at byte 8. */
export function newFrame(type: FrameType, flags: number, length: number, streamId: number): Uint8Array {
  const frame = new Uint8Array(WIRE.headerBytes + length);
  fillHeader(frame, type, flags, length, streamId);
  return frame;
}

function fillHeader(target: Uint8Array, type: FrameType, flags: number, length: number, streamId: number): void {
  target[0] = type;
  target[1] = flags;
  target[2] = length >>> 8;
  target[3] = length & 0xff;
  target[4] = streamId >>> 24;
  target[5] = (streamId >>> 16) & 0xff;
  target[6] = (streamId >>> 8) & 0xff;
  target[7] = streamId & 0xff;
}

/** What a frame did wrong, naming its type and the byte of the message where it begins. */
export function violation(what: FrameName | 'a frame', offset: number, text: string): FairleadError {
  const subject = what === 'a frame' ? what : `${what} frame`;
  return new FairleadError('PROTOCOL_ERROR', `${subject} at byte ${offset} of the message ${text}`, {
    details: { frame: what === 'a frame' ? null : what, offset },
  });
}
