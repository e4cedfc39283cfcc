/** Every frame that can be written is read back the same, wherever in a message it stands. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FLAG, FRAME, type Frame, writeHeader } from '../../shared/mux/frame.ts';
import { WIRE } from '../../shared/mux/limits.ts';
import { readU64 } from '../../shared/mux/numbers.ts';
import {
  readGoAway,
  readOpen,
  readOpenOk,
  readReset,
  readWindow,
  writeFin,
  writeGoAway,
  writeOpen,
  writeOpenOk,
  writeReset,
  writeWindow,
} from '../../shared/mux/payload.ts';
import { readResume, writeResume } from '../../shared/mux/resume-entry.ts';
import { framesOf } from '../support/mux-pair.ts';

interface Sample {
  readonly bytes: Uint8Array;
  readonly read: (frame: Frame) => unknown;
  readonly value: unknown;
}

const id = fc.integer({ min: 1, max: WIRE.maxStreamId });
const offset = fc.oneof(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 0, max: WIRE.maxOffset }));
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const text = fc.string({ maxLength: 32, unit: 'grapheme' });
const key = fc
  .uint8Array({ minLength: WIRE.streamKeyBytes, maxLength: WIRE.streamKeyBytes })
  .map((bytes) => String.fromCharCode(...bytes));
const credit = fc.record({ limit: offset, acked: offset, end: fc.boolean(), done: fc.boolean() });
/** Offsets as they can be: consumed, received and allowed rise in this order. */
const entry = fc
  .record({
    streamId: id,
    end: fc.boolean(),
    done: fc.boolean(),
    round: fc.integer({ min: 1, max: 0xffff_ffff }),
    key,
    acked: fc.integer({ min: 0, max: WIRE.maxOffset - WIRE.maxWindowBytes }),
    more: fc.tuple(fc.nat(WIRE.maxWindowBytes), fc.nat(WIRE.maxWindowBytes)),
  })
  .map(({ more, ...said }) => ({ ...said, received: said.acked + Math.min(...more), limit: said.acked + Math.max(...more) }));

const sample: fc.Arbitrary<Sample> = fc.oneof(
  fc.tuple(id, fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.boolean()).map(([streamId, payload, exhausted]) => ({
    bytes: Buffer.concat([writeHeader(FRAME.DATA, exhausted ? FLAG.EXHAUSTED : 0, payload.length, streamId), payload]),
    read: (frame: Frame) => [frame.streamId, frame.flags, Buffer.from(frame.payload).toString('hex')],
    value: [streamId, exhausted ? 1 : 0, Buffer.from(payload).toString('hex')],
  })),
  fc.tuple(id, key, offset, text).map(([streamId, key, creditBytes, name]) => ({
    bytes: writeOpen(streamId, key, { creditBytes, meta: { name } }),
    read: (frame: Frame) => [frame.streamId, readOpen(frame)],
    value: [streamId, { creditBytes, key, meta: { name } }],
  })),
  fc.tuple(id, offset, text).map(([streamId, creditBytes, name]) => ({
    bytes: writeOpenOk(streamId, { creditBytes, meta: { name } }),
    read: (frame: Frame) => [frame.streamId, readOpenOk(frame)],
    value: [streamId, { creditBytes, meta: { name } }],
  })),
  fc.tuple(id, credit).map(([streamId, value]) => ({
    bytes: writeWindow(streamId, value),
    read: (frame: Frame) => [frame.streamId, readWindow(frame)],
    value: [streamId, value],
  })),
  fc.tuple(id, offset).map(([streamId, at]) => ({
    bytes: writeFin(streamId, at),
    read: (frame: Frame) => [frame.streamId, readU64(frame, 0)],
    value: [streamId, at],
  })),
  fc.tuple(id, u32, fc.string({ maxLength: 30 })).map(([streamId, code, reason]) => ({
    bytes: writeReset(streamId, code, reason),
    read: (frame: Frame) => [frame.streamId, readReset(frame)],
    value: [streamId, { code, reason }],
  })),
  fc.record({ code: u32, lastId: u32, drainMs: u32, spreadMs: u32, reason: fc.string({ maxLength: 30 }) }).map((goAway) => ({
    bytes: writeGoAway(goAway),
    read: readGoAway,
    value: goAway,
  })),
  fc.array(entry, { maxLength: 5 }).map((entries) => ({
    bytes: writeResume(entries, entries.length > 3),
    read: (frame: Frame) => [frame.flags === FLAG.MORE, readResume(frame)],
    value: [entries.length > 3, entries],
  })),
);

test('what is written is read back, several frames to a message', () => {
  fc.assert(
    fc.property(fc.array(sample, { minLength: 1, maxLength: 8 }), (samples) => {
      const frames = framesOf(Buffer.concat(samples.map(({ bytes }) => bytes)));
      expect(frames.map((frame, index) => samples[index]?.read(frame))).toEqual(samples.map(({ value }) => value));
    }),
  );
});
