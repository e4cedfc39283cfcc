import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { QmpFramer } from '../../agent/qmp/framing.ts';
import { isFairleadError } from '../../shared/errors.ts';

const messages = fc.array(fc.tuple(fc.jsonValue(), fc.constantFrom('\n', '\r\n', '\r\n\r\n')), { maxLength: 8 });
const cuts = fc.array(fc.nat(), { maxLength: 40 });

function split(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [...new Set(at.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...places, bytes.length].map((end, index) => bytes.subarray(places[index - 1] ?? 0, end));
}

function failureOf(act: () => void): string | undefined {
  try {
    act();
    return undefined;
  } catch (thrown) {
    return isFairleadError(thrown) ? thrown.code : String(thrown);
  }
}

test('any sequence of messages, cut anywhere, comes out as it went in', () => {
  fc.assert(
    fc.property(messages, cuts, (sequence, at) => {
      const bytes = Buffer.from(sequence.map(([value, end]) => JSON.stringify(value) + end).join(''));
      const framer = new QmpFramer();
      const taken = split(bytes, at).flatMap((chunk) => [...framer.push(chunk)]);
      expect(taken).toEqual(sequence.map(([value]) => JSON.parse(JSON.stringify(value))));
      expect(framer.pendingBytes).toBe(0);
    }),
    { numRuns: 500 },
  );
});

test('any bytes at all give messages or a protocol error, and never more pending bytes than the limit', () => {
  const maxMessageBytes = 64;
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 }), (chunks) => {
      const framer = new QmpFramer({ maxMessageBytes });
      const failure = failureOf(() => {
        for (const chunk of chunks) for (const _ of framer.push(Buffer.from(chunk))) continue;
      });
      expect([undefined, 'PROTOCOL_ERROR']).toContain(failure);
      expect(framer.pendingBytes).toBeLessThanOrEqual(maxMessageBytes);
    }),
    { numRuns: 500 },
  );
});
