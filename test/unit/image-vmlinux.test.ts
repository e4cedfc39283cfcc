import { describe, expect, test } from 'vitest';
import { decompressLz4Block, extractVmlinux } from '../../cli/image/vmlinux.ts';

describe('an LZ4 block', () => {
  test.for([
    { name: 'literals only', hex: '50 68656c6c6f', text: 'hello' },
    { name: 'a match', hex: '32 616263 0300 10 21', text: 'abcabcabc!' },
    { name: 'a match that overlaps what it writes', hex: '14 61 0100 00', text: 'aaaaaaaaa' },
    { name: 'lengths of more than a nibble', hex: `f002 ${'61'.repeat(17)}`, text: 'a'.repeat(17) },
  ])('with $name is unpacked', ({ hex, text }) => {
    const output = Buffer.alloc(100);
    const end = decompressLz4Block(bytes(hex), output, 0, output.length);
    expect(output.toString('latin1', 0, end)).toBe(text);
  });

  test.for([
    { name: 'a distance to before the start', hex: '10 61 0200' },
    { name: 'literals that are cut short', hex: '50 6865' },
    { name: 'more output than is allowed', hex: '1f 61 0100 ff00' },
  ])('with $name is refused', ({ hex }) => {
    expect(() => decompressLz4Block(bytes(hex), Buffer.alloc(50), 0, 50)).toThrow(/corrupt/);
  });
});

describe('a bzImage', () => {
  test('gives its LZ4-packed kernel', () => {
    const frame = bytes('02214c18 06000000 50 68656c6c6f 05000000');
    expect(extractVmlinux(bzImage(frame))?.toString()).toBe('hello');
  });

  test('packed otherwise gives nothing, since it boots as it is', () => {
    expect(extractVmlinux(bzImage(Buffer.from('fd377a585a0000', 'hex')))).toBeUndefined();
  });

  test('is refused when it is something else', () => {
    expect(() => extractVmlinux(Buffer.alloc(2048))).toThrow(/no bzImage/);
  });
});

/** Bytes in hexadecimal, with spaces between the parts. */
function bytes(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex');
}

/** A setup part of two sectors, then the payload at an offset of 16. */
function bzImage(payload: Buffer): Buffer {
  const image = Buffer.alloc(1024 + 16 + payload.length);
  image.writeUInt8(1, 0x1f1);
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt32LE(16, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  payload.copy(image, 1024 + 16);
  return image;
}
