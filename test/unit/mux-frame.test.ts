/** The frame codec, against the conformance vectors that other implementations may use as well. */
import { describe, expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { FRAME, type Frame, frameBytes, frameName, newFrame, readFrame, writeHeader } from '../../shared/mux/frame.ts';
import { readU64 } from '../../shared/mux/numbers.ts';
import {
  cutUtf8,
  readGoAway,
  readHello,
  readOpen,
  readOpenOk,
  readRefusal,
  readReset,
  readWindow,
  writeOpenOk,
  writeRefusal,
  writeReset,
} from '../../shared/mux/payload.ts';
import { readResume } from '../../shared/mux/resume-entry.ts';
import { framesOf, fromHex, toHex } from '../support/mux-pair.ts';
import vectors from './vectors/frames.json' with { type: 'json' };

function valueOf(frame: Frame): unknown {
  switch (frame.type) {
    case FRAME.HELLO:
      return readHello(frame, 1);
    case FRAME.OPEN:
      return readOpen(frame);
    case FRAME.OPEN_OK:
      return readOpenOk(frame);
    case FRAME.OPEN_ERR: {
      const { code, message, details } = readRefusal(frame);
      return { code, message, details };
    }
    case FRAME.WINDOW:
      return readWindow(frame);
    case FRAME.FIN:
      return readU64(frame, 0);
    case FRAME.RESET:
      return readReset(frame);
    case FRAME.GOAWAY:
      return readGoAway(frame);
    case FRAME.RESUME:
      return readResume(frame);
    default:
      return toHex(frame.payload);
  }
}

function errorOf(action: () => unknown): FairleadError {
  try {
    action();
  } catch (error) {
    if (error instanceof FairleadError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('frame codec', () => {
  test.each(vectors.valid)('decodes $name', ({ hex, frames }) => {
    const decoded = framesOf(fromHex(hex));
    const described = decoded.map((frame) => ({
      type: frameName(frame.type),
      flags: frame.flags,
      streamId: frame.streamId,
      value: valueOf(frame),
    }));
    expect(described).toEqual(frames);
  });

  test.each(vectors.invalid)('refuses $name, naming frame and offset', ({ hex, offset, frame }) => {
    const error = errorOf(() => framesOf(fromHex(hex)).map(valueOf));
    expect(error.code).toBe('PROTOCOL_ERROR');
    expect(error.message).toContain(`at byte ${offset} of the message`);
    expect(error.message).toContain(frame === null ? 'a frame' : `${frame} frame`);
  });

  test.each(vectors.valid)('refuses $name when it is cut anywhere', ({ hex, frames }) => {
    const message = fromHex(hex);
    const ends = new Set([0]);
    for (const frame of framesOf(message)) ends.add(frame.offset + frameBytes(frame));
    expect(ends.size).toBe(frames.length + 1);
    for (let length = 1; length < message.length; length += 1) {
      if (ends.has(length)) continue;
      expect(errorOf(() => framesOf(message.subarray(0, length))).code).toBe('PROTOCOL_ERROR');
    }
  });

  test('writes a header big-endian', () => {
    expect(toHex(writeHeader(FRAME.DATA, 1, 0x1234, 0x89abcdef))).toBe('0501123489abcdef');
  });

  test('a payload is a view of its message, not a copy', () => {
    const message = fromHex('0500000100000001 21');
    expect(readFrame(message, 0).payload.buffer).toBe(message.buffer);
  });

  test('refuses payloads longer than their type allows', () => {
    for (const [type, length] of [
      [FRAME.HELLO, 4097],
      [FRAME.OPEN, 8 + 16 + 1025],
      [FRAME.OPEN_ERR, 1025],
      [FRAME.RESET, 4 + 129],
      [FRAME.GOAWAY, 16 + 1025],
    ] as const) {
      const frame = newFrame(type, 0, length, type === FRAME.HELLO || type === FRAME.GOAWAY ? 0 : 1);
      expect(errorOf(() => readFrame(frame, 0)).message).toContain(`has ${length} payload bytes`);
    }
  });

  test('a HELLO of another protocol says who must be upgraded, whatever else it has', () => {
    const json = Buffer.from('{"protocol":2,"anything":[]}');
    const frame = newFrame(FRAME.HELLO, 0, json.length, 0);
    frame.set(json, 8);
    const error = errorOf(() => readHello(readFrame(frame, 0), 1));
    expect(error.message).toBe('the peer speaks line protocol 2, this side 1: upgrade the older one');
  });

  test('a HELLO with an unknown field is refused with its path, one with an extension is not', () => {
    const hello = vectors.valid[0]?.frames[0]?.value as object;
    const framed = (value: object): Frame => {
      const json = Buffer.from(JSON.stringify(value));
      const frame = newFrame(FRAME.HELLO, 0, json.length, 0);
      frame.set(json, 8);
      return readFrame(frame, 0);
    };
    expect(errorOf(() => readHello(framed({ ...hello, more: 1 }), 1)).message).toBe('HELLO.more: is not a known field');
    expect(readHello(framed({ ...hello, extensions: { more: { a: 1 } } }), 1).extensions).toEqual({ more: { a: 1 } });
  });

  test('a refusal that is too long loses its details, then the end of its message, never its code', () => {
    const long = new FairleadError('GUEST_REFUSED', '\u0001'.repeat(5000), { details: { tail: 'x'.repeat(2000) } });
    const error = readRefusal(readFrame(writeRefusal(1, long), 0));
    expect(error.code).toBe('GUEST_REFUSED');
    const medium = new FairleadError('GUEST_REFUSED', 'ü'.repeat(400), { details: { tail: 'x'.repeat(2000) } });
    expect(readRefusal(readFrame(writeRefusal(1, medium), 0)).message).toBe('ü'.repeat(256));
  });

  test('a refusal with a code of a newer peer becomes INTERNAL and keeps the code', () => {
    const json = Buffer.from('{"code":"TOO_NEW","message":"no"}');
    const frame = newFrame(FRAME.OPEN_ERR, 0, json.length, 1);
    frame.set(json, 8);
    expect(readRefusal(readFrame(frame, 0))).toMatchObject({ code: 'INTERNAL', message: 'no', details: { peerCode: 'TOO_NEW' } });
  });

  test('a reason is cut to 128 bytes between characters', () => {
    expect(readReset(readFrame(writeReset(1, 1, 'ü'.repeat(100)), 0)).reason).toBe('ü'.repeat(64));
    expect(cutUtf8('a€', 3)).toBe('a');
    expect(cutUtf8('€', 3)).toBe('€');
  });

  test('a meta that is too long is refused where it is made', () => {
    const error = errorOf(() => writeOpenOk(1, { creditBytes: 0, meta: { text: 'x'.repeat(1100) } }));
    expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED', message: 'OPEN_OK has 1111 bytes of meta where 1024 are allowed' });
  });
});
