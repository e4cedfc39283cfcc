import { describe, expect, test } from 'vitest';
import { type CpioEntry, writeCpio } from '../../cli/image/cpio.ts';

interface ReadEntry {
  readonly path: string;
  readonly mode: string;
  readonly mtime: number;
  readonly content: string;
}

describe('a cpio archive', () => {
  const entries: readonly CpioEntry[] = [
    { kind: 'file', path: 'init', content: Buffer.from('#!/bin/sh\n'), executable: true },
    { kind: 'file', path: 'etc/deep/motd', content: Buffer.from('hello') },
    { kind: 'link', path: 'bin/sh', target: 'busybox' },
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
  ];

  test('holds every entry in order of its path, and the folders that they need', () => {
    expect(read(writeCpio(entries)).map(({ path, mode, content }) => [path, mode, content])).toEqual([
      ['bin', '40755', ''],
      ['bin/sh', '120777', 'busybox'],
      ['dev', '40755', ''],
      ['dev/console', '20600', ''],
      ['etc', '40755', ''],
      ['etc/deep', '40755', ''],
      ['etc/deep/motd', '100644', 'hello'],
      ['init', '100755', '#!/bin/sh\n'],
      ['TRAILER!!!', '0', ''],
    ]);
  });

  test('is the same whatever the order of the entries, and without a date', () => {
    expect(writeCpio(entries.toReversed())).toEqual(writeCpio(entries));
    expect(read(writeCpio(entries)).every(({ mtime }) => mtime === 0)).toBe(true);
  });

  test('starts each header and each content on a boundary of four bytes', () => {
    for (const length of [0, 1, 2, 3, 4, 5]) {
      const archive = writeCpio([{ kind: 'file', path: 'x'.repeat(length + 1), content: Buffer.alloc(length, 0x61) }]);
      expect(archive.length % 4).toBe(0);
      expect(read(archive)[0]).toMatchObject({ path: 'x'.repeat(length + 1), content: 'a'.repeat(length) });
    }
  });

  test('writes the header that the kernel expects', () => {
    const header = writeCpio([{ kind: 'device', path: 'c', major: 5, minor: 1 }]).toString('latin1', 0, 110);
    const fields = '070701 00000001 00002180 00000000 00000000 00000001 00000000 00000000 00000000 00000000';
    expect(header).toBe(`${fields} 00000005 00000001 00000002 00000000`.replaceAll(' ', ''));
  });

  test.for(['/etc/passwd', '../up', 'a//b', '', './a'])('refuses the path "%s"', (path) => {
    expect(() => writeCpio([{ kind: 'directory', path }])).toThrow(/paths are relative and plain/);
  });

  test('refuses two entries of one name', () => {
    const entry: CpioEntry = { kind: 'file', path: 'a', content: Buffer.from('x') };
    expect(() => writeCpio([entry, entry])).toThrow(/two entries .* called a/);
  });
});

/** A reader as simple as the kernel's. */
function read(archive: Buffer): ReadEntry[] {
  const entries: ReadEntry[] = [];
  const align = (offset: number): number => Math.ceil(offset / 4) * 4;
  for (let at = 0; at < archive.length; ) {
    const field = (index: number): number =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const nameEnd = at + 110 + field(11);
    const start = align(nameEnd);
    const path = archive.toString('utf8', at + 110, nameEnd - 1);
    entries.push({
      path,
      mode: field(1).toString(8),
      mtime: field(5),
      content: archive.toString('utf8', start, start + field(6)),
    });
    at = align(start + field(6));
  }
  return entries;
}
