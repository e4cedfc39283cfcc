import { describe, expect, it } from 'vitest';
import { crc32c } from '../../agent/journal/crc32c.ts';
import { encodeFrame, MAX_PAYLOAD_BYTES, scanFrames } from '../../agent/journal/frame.ts';

const payloads = (file: Buffer): string[] => scanFrames(file).frames.map(({ payload }) => payload.toString());

describe('CRC-32C', () => {
  // RFC 3720 B.4, and the check value of the catalogue of parametrised CRCs.
  it.each([
    ['123456789', Buffer.from('123456789'), 0xe3069283],
    ['32 zeros', Buffer.alloc(32), 0x8a9136aa],
    ['32 times 0xff', Buffer.alloc(32, 0xff), 0x62a8ab43],
    ['0 to 31', Buffer.from(Array.from({ length: 32 }, (_, n) => n)), 0x46dd794e],
  ])('of %s is that of the standard', (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])('of two parts, the first of %d bytes, is that of the whole', (length) => {
    const whole = Buffer.from('123456789');
    expect(crc32c(whole.subarray(length), crc32c(whole.subarray(0, length)))).toBe(0xe3069283);
  });
});

describe('a record in a file', () => {
  it('is its length, the checksum of length and payload, and the payload', () => {
    expect(encodeFrame(Buffer.from('{}')).toString('hex')).toBe('00000002c05f89ff7b7d');
    expect(crc32c(Buffer.from('000000027b7d', 'hex'))).toBe(0xc05f89ff);
  });

  it.each([0, 1, MAX_PAYLOAD_BYTES + 1])('of %d bytes is not written', (bytes) => {
    expect(() => encodeFrame(Buffer.alloc(bytes))).toThrow(RangeError);
  });

  it('is read back, one after another', () => {
    const file = Buffer.concat(['{"a":1}', '{}', '{"b":"é"}'].map((text) => encodeFrame(Buffer.from(text))));
    expect(payloads(file)).toEqual(['{"a":1}', '{}', '{"b":"é"}']);
    expect(scanFrames(file).damages).toEqual([]);
  });

  it('that is damaged hides none behind it', () => {
    const [first, second, third] = ['{"n":1}', '{"n":2}', '{"n":3}'].map((text) => encodeFrame(Buffer.from(text)));
    const file = Buffer.concat([first ?? '', second ?? '', third ?? ''].map((part) => Buffer.from(part)));
    // A length that leads beyond the end, which a reader that trusts it would follow.
    file.writeUInt32BE(200_000, first?.length ?? 0);
    expect(payloads(file)).toEqual(['{"n":1}', '{"n":3}']);
    expect(scanFrames(file).damages).toEqual([{ offset: 15, bytes: 15, kind: 'damaged' }]);
  });

  it('of zeros is none', () => {
    expect(scanFrames(Buffer.alloc(4096))).toEqual({ frames: [], damages: [{ offset: 0, bytes: 4096, kind: 'torn' }] });
  });

  it('that is whole but wrong at the end may have been durable', () => {
    const file = encodeFrame(Buffer.from('{"n":1}'));
    file[12] = 0;
    expect(scanFrames(file).damages).toEqual([{ offset: 0, bytes: 15, kind: 'damaged' }]);
  });
});
