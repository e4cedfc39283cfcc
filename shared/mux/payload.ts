/** Payloads of each frame type: reading (throws PROTOCOL_ERROR, naming frame and offset) and writing whole control frames. */
import * as v from 'valibot';
import { FairleadError, type JsonObject } from '../errors.ts';
import { isErrorCode } from '../protocol/error-table.ts';
import { parseWith } from '../protocol/parse-with.ts';
import { FLAG, FRAME, type Frame, frameName, newFrame, violation } from './frame.ts';
import { Hello, type PeerHello } from './hello.ts';
import { WIRE } from './limits.ts';
import { readKey, readU32, readU64, type StreamKey, writeKey, writeU32, writeU64 } from './numbers.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

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

export function writeOpen(streamId: number, key: StreamKey, opening: Opening): Uint8Array {
  const frame = newOpening(FRAME.OPEN, streamId, WIRE.streamKeyBytes, opening);
  writeKey(frame, WIRE.headerBytes + 8, key);
  return frame;
}

export function readOpen(frame: Frame): Opening & { readonly key: StreamKey } {
  const at = 8 + WIRE.streamKeyBytes;
  return { creditBytes: readU64(frame, 0), key: readKey(frame, 8), meta: readJson(frame, at) };
}

export function writeOpenOk(streamId: number, opening: Opening): Uint8Array {
  return newOpening(FRAME.OPEN_OK, streamId, 0, opening);
}

export function readOpenOk(frame: Frame): Opening {
  return { creditBytes: readU64(frame, 0), meta: readJson(frame, 8) };
}

/** Credit and meta are written, with `gap` bytes between them. */
function newOpening(type: typeof FRAME.OPEN | typeof FRAME.OPEN_OK, id: number, gap: number, opening: Opening): Uint8Array {
  const bytes = metaBytes(opening.meta, frameName(type));
  const frame = newFrame(type, 0, 8 + gap + bytes.length, id);
  writeU64(frame, WIRE.headerBytes, opening.creditBytes);
  frame.set(bytes, WIRE.headerBytes + 8 + gap);
  return frame;
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

/** What a receiver says of one direction of a stream; RESUME says the same of it as WINDOW. */
export interface Credit {
  /** Offset up to which may be sent. */
  readonly limit: number;
  /** Offset below which no byte is asked for again. */
  readonly acked: number;
  /** The FIN of that direction has come. */
  readonly end: boolean;
  /** The other direction's end is known to have come, so that its sender needs nothing more. */
  readonly done: boolean;
}

export function writeWindow(streamId: number, { limit, acked, end, done }: Credit): Uint8Array {
  const frame = newFrame(FRAME.WINDOW, (end ? FLAG.END : 0) | (done ? FLAG.DONE : 0), 16, streamId);
  writeU64(frame, WIRE.headerBytes, limit);
  writeU64(frame, WIRE.headerBytes + 8, acked);
  return frame;
}

export function readWindow(frame: Frame): Credit {
  return {
    limit: readU64(frame, 0),
    acked: readU64(frame, 8),
    end: (frame.flags & FLAG.END) !== 0,
    done: (frame.flags & FLAG.DONE) !== 0,
  };
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

/** The longest beginning of `text` that has at most `maxBytes` as UTF-8, never half a character. */
export function cutUtf8(text: string, maxBytes: number): string {
  const { read } = encoder.encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}
