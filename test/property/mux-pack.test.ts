/**
 * Messages of data, whatever the other side takes and whatever waits: none is longer than allowed, a PING has room behind it, none is shorter
 * than it need be, no stream goes beyond its credit, and each says EXHAUSTED where its credit ends and nowhere else.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FLAG, FRAME } from '../../shared/mux/frame.ts';
import { MESSAGE_BYTES, SCRAP_BYTES } from '../../shared/mux/limits.ts';
import { framesOf, MuxPair, Recorder } from '../support/mux-pair.ts';

const PING_BYTES = 16;
const HEADER_BYTES = 8;
/** What an end keeps without asking for memory: below that, credit alone is what it waits for. */
const MAX_CREDIT = 64 * 1024;

interface Plan {
  readonly relays: boolean;
  readonly credit: number;
  readonly chunks: readonly number[];
  readonly ends: boolean;
}

const chunkBytes = fc.oneof(
  fc.integer({ min: 1, max: 700 }),
  fc.integer({ min: 1, max: 5000 }),
  fc.constantFrom(16_384, 16_383, 8168, 65_535),
  fc.integer({ min: 1, max: 40_000 }),
);
const plan: fc.Arbitrary<Plan> = fc.record({
  relays: fc.boolean(),
  credit: fc.oneof(fc.constant(MAX_CREDIT), fc.integer({ min: 1, max: MAX_CREDIT })),
  chunks: fc.array(chunkBytes, { maxLength: 12 }),
  ends: fc.boolean(),
});
const limits = fc.record({
  maxFrameBytes: fc.oneof(fc.constantFrom(1024, 16_384), fc.integer({ min: 1024, max: 65_535 })),
  maxMessageBytes: fc.oneof(fc.constantFrom(8192, 262_144), fc.integer({ min: 8192, max: 262_144 })),
});

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
const byteAt = (id: number, offset: number): number => (id * 31 + offset * 7 + (offset >> 8)) & 0xff;

/** As it comes out of a message: with room for a header before it. */
function chunkOf(id: number, from: number, bytes: number): Uint8Array {
  const message = new Uint8Array(HEADER_BYTES + bytes);
  for (let index = 0; index < bytes; index++) message[HEADER_BYTES + index] = byteAt(id, from + index);
  return message.subarray(HEADER_BYTES);
}

test('messages of data are as long as they may be and no longer, within credit, with every byte in order', () => {
  fc.assert(
    fc.property(
      fc.array(plan, { minLength: 1, maxLength: 6 }),
      limits,
      fc.integer({ min: 4096, max: MESSAGE_BYTES }),
      fc.boolean(),
      (plans, acceptorLimits, wantedBytes, asks) => {
        const pair = new MuxPair({ acceptor: { limits: acceptorLimits } });
        const { maxFrameBytes, maxMessageBytes } = acceptorLimits;
        const maxBytes = Math.min(wantedBytes, maxMessageBytes);
        const recorders = plans.map(({ relays, credit }) => {
          const handler = new Recorder();
          const stream = pair.dialer.session.open({}, relays ? Object.assign(handler, { relays: true as const }) : handler, 0);
          pair.run();
          const recorder = new Recorder();
          const offer = pair.acceptor.offers.at(-1);
          offer?.stream.attach(recorder);
          offer?.stream.accept({}, credit);
          pair.run();
          return { stream, recorder };
        });
        recorders.forEach(({ stream }, index) => {
          const { chunks = [], ends = false } = plans[index] ?? {};
          let from = 0;
          for (const bytes of chunks) {
            stream.send(chunkOf(stream.id, from, bytes));
            from += bytes;
          }
          if (ends) stream.fin();
        });

        const sent = new Map<number, number>();
        const messages: { readonly bytes: number; readonly isData: boolean }[] = [];
        for (;;) {
          if (asks) pair.dialer.session.ping();
          const before = pair.dialer.session.dataBytes;
          const message = pair.dialer.pullAll(maxBytes);
          const isData = pair.dialer.session.dataBytes > before;
          if (message === undefined || !isData) break;
          messages.push({ bytes: message.length, isData });
          expect(message.length + PING_BYTES).toBeLessThanOrEqual(maxMessageBytes);
          expect(message.length).toBeLessThanOrEqual(MESSAGE_BYTES + SCRAP_BYTES);
          for (const { type, flags, streamId, payload } of framesOf(message)) {
            if (type !== FRAME.DATA) continue;
            const offset = (sent.get(streamId) ?? 0) + payload.length;
            sent.set(streamId, offset);
            expect(payload.length).toBeLessThanOrEqual(maxFrameBytes);
            const credit = plans[(streamId - 1) / 2]?.credit;
            expect((flags & FLAG.EXHAUSTED) !== 0).toBe(offset === credit);
          }
          pair.acceptor.session.receive(message);
          expect(pair.acceptor.closedWith).toBeUndefined();
        }
        // What does not fit is one relayed frame at most, and of that no more than one that is allowed.
        const mostBytes = Math.min(MESSAGE_BYTES, maxMessageBytes - PING_BYTES);
        const relayed = plans.some(({ relays }) => relays) ? Math.min(maxFrameBytes, mostBytes) : 0;
        for (const { bytes } of messages.slice(0, -1)) {
          expect(bytes).toBeGreaterThanOrEqual(Math.min(maxBytes, mostBytes - relayed - SCRAP_BYTES));
        }
        recorders.forEach(({ stream, recorder }, index) => {
          const { credit = 0, chunks = [], ends = false } = plans[index] ?? {};
          const due = Math.min(credit, sum(chunks));
          const got = Buffer.concat(recorder.chunks);
          expect(got.length).toBe(due);
          expect(got.every((byte, offset) => byte === byteAt(stream.id, offset))).toBe(true);
          expect(recorder.events.includes('fin')).toBe(ends && sum(chunks) <= credit);
        });
      },
    ),
    { numRuns: 200 },
  );
});
