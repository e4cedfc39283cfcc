/** Payloads of each frame type: reading (throws PROTOCOL_ERROR, naming frame and offset) and writing whole control frames. */
import * as v from 'valibot';
import { FairleadError, type JsonObject } from '../errors.ts';
import { isErrorCode } from '../protocol/error-table.ts';
import { parseWith } from '../protocol/parse-with.ts';
import { FLAG, FRAME, type Frame, frameName, newFrame, violation } from './frame.ts';
import { Hello, type PeerHello } from './hello.ts';
import { WIRE } from './limits.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** u64 as a double. Beyond 2^53 - 1 no offset of ours can be, and no double is exact. */
export function readU64(frame: Frame, at: number): number {
  const view = new DataView(frame.payload.buffer, frame.payload.byteOffset + at, 8);
  const value = view.getUint32(0) * 0x1_0000_0000 + view.getUint32(4);
  if (value > WIRE.maxOffset) throw violation(frameName(frame.type), frame.offset, 'has an offset beyond 2^53 - 1');
  return value;
}

export function readU32(frame: Frame, at: number): number {
  return new DataView(frame.payload.buffer, frame.payload.byteOffset + at, 4).getUint32(0);
}

function writeU64(target: Uint8Array, at: number, value: number): void {
  const view = new DataView(target.buffer, target.byteOffset + at, 8);
  view.setUint32(0, Math.floor(value / 0x1_0000_0000));
  view.setUint32(4, value % 0x1_0000_0000);
}

function writeU32(target: Uint8Array, at: number, value: number): void {
  new DataView(target.buffer, target.byteOffset + at, 4).setUint32(0, value);
}

function readText(frame: Frame, from: number): string {
  try {
    return decoder.decode(frame.payload.subarray(from));
  } catch (cause) {
    throw new FairleadError('PROTOCOL_ERROR', violation(frameName(frame.type), frame.offset, 'is not UTF-8').message, { cause });
  }
}

function readJson(frame: Frame, from: number): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(readText(frame, from));
  } catch {
    throw violation(frameName(frame.type), frame.offset, 'has text that is no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw violation(frameName(frame.type), frame.offset, 'has JSON that is no object');
  }
  // SAFETY: an object out of JSON.parse has JSON values only.
  return value as JsonObject;
}

/** Bytes of a meta. Throws LIMIT_EXCEEDED: it was made on this side. */
function metaBytes(meta: JsonObject, what: string): Uint8Array {
  const bytes = encoder.encode(JSON.stringify(meta));
  if (bytes.length > WIRE.maxMetaBytes) {
    throw new FairleadError('LIMIT_EXCEEDED', `${what} has ${bytes.length} bytes of meta where ${WIRE.maxMetaBytes} are allowed`);
  }
  return bytes;
}

export function writeHello(hello: PeerHello): Uint8Array {
  const bytes = encoder.encode(JSON.stringify(parseWith(Hello, hello, 'hello', 'INTERNAL')));
  if (bytes.length > WIRE.maxHelloBytes) throw new FairleadError('LIMIT_EXCEEDED', `our HELLO has ${bytes.length} bytes`);
  const frame = newFrame(FRAME.HELLO, 0, bytes.length, 0);
  frame.set(bytes, WIRE.headerBytes);
  return frame;
}

/** Looks at `protocol` first: of another version's HELLO nothing else can be relied on. */
export function readHello(frame: Frame, protocol: number): PeerHello {
  const json = readJson(frame, 0);
  if (json['protocol'] !== protocol) {
    const theirs = JSON.stringify(json['protocol'] ?? null).slice(0, 32);
    throw new FairleadError(
      'PROTOCOL_ERROR',
      `the peer speaks line protocol ${theirs}, this side ${protocol}: upgrade the older one`,
    );
  }
  return parseWith(Hello, json, 'HELLO', 'PROTOCOL_ERROR');
}

export interface Opening {
  readonly creditBytes: number;
  readonly meta: JsonObject;
}

export function writeOpening(type: typeof FRAME.OPEN | typeof FRAME.OPEN_OK, streamId: number, opening: Opening): Uint8Array {
  const bytes = metaBytes(opening.meta, frameName(type));
  const frame = newFrame(type, 0, 8 + bytes.length, streamId);
  writeU64(frame, WIRE.headerBytes, opening.creditBytes);
  frame.set(bytes, WIRE.headerBytes + 8);
  return frame;
}

export function readOpening(frame: Frame): Opening {
  return { creditBytes: readU64(frame, 0), meta: readJson(frame, 8) };
}

/** Message and details are cut to what OPEN_ERR can hold; the code always gets through. */
export function writeRefusal(streamId: number, error: FairleadError): Uint8Array {
  const { code, details } = error;
  const brief = { code, message: cutUtf8(error.message, 512) };
  const full = encoder.encode(JSON.stringify(details === undefined ? brief : { ...brief, details }));
  // JSON escapes may blow 512 bytes up to six times as many.
  const bytes = [full, encoder.encode(JSON.stringify(brief)), encoder.encode(JSON.stringify({ code, message: '' }))].find(
    (candidate) => candidate.length <= WIRE.maxMetaBytes,
  );
  // SAFETY: the last candidate has fewer than 64 bytes.
  const payload = bytes!;
  const frame = newFrame(FRAME.OPEN_ERR, 0, payload.length, streamId);
  frame.set(payload, WIRE.headerBytes);
  return frame;
}

const Refusal = v.object({
  code: v.pipe(v.string(), v.maxLength(64)),
  message: v.string(),
  details: v.optional(v.record(v.string(), v.unknown())),
});

/** A code that this side is too old to know becomes INTERNAL and keeps its name in `details.peerCode`. */
export function readRefusal(frame: Frame): FairleadError {
  const { code, message, details } = parseWith(Refusal, readJson(frame, 0), 'OPEN_ERR', 'PROTOCOL_ERROR');
  // SAFETY: out of JSON.parse, so its values are JSON.
  const json = details as JsonObject | undefined;
  if (isErrorCode(code)) return new FairleadError(code, message, { details: json });
  return new FairleadError('INTERNAL', message, { details: { ...json, peerCode: code } });
}

export interface Credit {
  readonly limit: number;
  readonly acked: number;
}

export function writeWindow(streamId: number, credit: Credit): Uint8Array {
  const frame = newFrame(FRAME.WINDOW, 0, 16, streamId);
  writeU64(frame, WIRE.headerBytes, credit.limit);
  writeU64(frame, WIRE.headerBytes + 8, credit.acked);
  return frame;
}

export function readWindow(frame: Frame): Credit {
  return { limit: readU64(frame, 0), acked: readU64(frame, 8) };
}

export function writeFin(streamId: number, finalOffset: number): Uint8Array {
  const frame = newFrame(FRAME.FIN, 0, 8, streamId);
  writeU64(frame, WIRE.headerBytes, finalOffset);
  return frame;
}

export function writeReset(streamId: number, code: number, reason: string): Uint8Array {
  const text = encoder.encode(cutUtf8(reason, WIRE.maxReasonBytes));
  const frame = newFrame(FRAME.RESET, 0, 4 + text.length, streamId);
  writeU32(frame, WIRE.headerBytes, code);
  frame.set(text, WIRE.headerBytes + 4);
  return frame;
}

export function readReset(frame: Frame): { code: number; reason: string } {
  return { code: readU32(frame, 0), reason: readText(frame, 4) };
}

export function writePing(value: number): Uint8Array {
  const frame = newFrame(FRAME.PING, 0, 8, 0);
  writeU64(frame, WIRE.headerBytes, value);
  return frame;
}

/** The PING's eight bytes are echoed as they are: they mean something to its sender only. */
export function writePong(ping: Uint8Array): Uint8Array {
  const frame = newFrame(FRAME.PONG, 0, 8, 0);
  frame.set(ping, WIRE.headerBytes);
  return frame;
}

export interface GoAway {
  readonly code: number;
  /** Highest stream id of the receiver that the sender of GOAWAY still serves. */
  readonly lastId: number;
  readonly drainMs: number;
  readonly spreadMs: number;
  readonly reason: string;
}

/** Beside `reason`, its JSON may have `alternates` (addresses of other hubs) and fields of later versions. */
export function writeGoAway(goAway: GoAway): Uint8Array {
  const bytes = encoder.encode(JSON.stringify({ reason: cutUtf8(goAway.reason, WIRE.maxReasonBytes) }));
  const frame = newFrame(FRAME.GOAWAY, 0, 16 + bytes.length, 0);
  [goAway.code, goAway.lastId, goAway.drainMs, goAway.spreadMs].forEach((value, index) => {
    writeU32(frame, WIRE.headerBytes + 4 * index, value);
  });
  frame.set(bytes, WIRE.headerBytes + 16);
  return frame;
}

export function readGoAway(frame: Frame): GoAway {
  const json = frame.payload.length === 16 ? {} : readJson(frame, 16);
  const reason = json['reason'];
  return {
    code: readU32(frame, 0),
    lastId: readU32(frame, 4),
    drainMs: readU32(frame, 8),
    spreadMs: readU32(frame, 12),
    reason: typeof reason === 'string' ? cutUtf8(reason, WIRE.maxReasonBytes) : '',
  };
}

/** State bits of a RESUME entry. */
export const RESUME_STATE = { OPENING: 0x01, FIN_RECEIVED: 0x02, FIN_SENT: 0x04 } as const;

/** What a side knows of one stream after a reconnect: the other sends on from `received`. */
export interface ResumeEntry {
  readonly streamId: number;
  readonly state: number;
  readonly received: number;
  readonly acked: number;
  readonly limit: number;
}

export function writeResume(entries: readonly ResumeEntry[], more: boolean): Uint8Array {
  const frame = newFrame(FRAME.RESUME, more ? FLAG.MORE : 0, entries.length * WIRE.resumeEntryBytes, 0);
  entries.forEach((entry, index) => {
    const at = WIRE.headerBytes + index * WIRE.resumeEntryBytes;
    writeU32(frame, at, entry.streamId);
    writeU32(frame, at + 4, entry.state);
    writeU64(frame, at + 8, entry.received);
    writeU64(frame, at + 16, entry.acked);
    writeU64(frame, at + 24, entry.limit);
  });
  return frame;
}

export function readResume(frame: Frame): ResumeEntry[] {
  if (frame.payload.length % WIRE.resumeEntryBytes !== 0) {
    throw violation('RESUME', frame.offset, `has ${frame.payload.length} payload bytes, no multiple of ${WIRE.resumeEntryBytes}`);
  }
  const entries: ResumeEntry[] = [];
  for (let at = 0; at < frame.payload.length; at += WIRE.resumeEntryBytes) {
    const state = readU32(frame, at + 4);
    if (state > 7) throw violation('RESUME', frame.offset, `has reserved state bits in entry ${entries.length}`);
    entries.push({
      streamId: readU32(frame, at),
      state,
      received: readU64(frame, at + 8),
      acked: readU64(frame, at + 16),
      limit: readU64(frame, at + 24),
    });
  }
  return entries;
}

/** The longest beginning of `text` that has at most `maxBytes` as UTF-8, never half a character. */
export function cutUtf8(text: string, maxBytes: number): string {
  const { read } = encoder.encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}
