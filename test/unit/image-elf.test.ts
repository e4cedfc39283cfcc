import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { interpreter, neededLibraries, readSection } from '../../cli/image/elf.ts';
import { loadOrder, moduleDependencies } from '../../cli/image/kernel-modules.ts';

describe('an ELF file', () => {
  test('says which libraries and which loader it needs', () => {
    const node = readFileSync(process.execPath);
    expect(neededLibraries(node)).toContain('libc.so.6');
    expect(interpreter(node)).toMatch(/^\/.*ld-linux/);
  });

  test('gives its sections by name', () => {
    const file = elfWith({ '.modinfo': 'license=GPL\0depends=vsock,virtio-ring\0name=x\0', '.text': 'code' });
    expect(readSection(file, '.text')?.toString()).toBe('code');
    expect(readSection(file, '.bss')).toBeUndefined();
    expect(neededLibraries(file)).toEqual([]);
  });

  test('is refused when it is something else', () => {
    expect(() => readSection(Buffer.from('#!/bin/sh\n'), '.text')).toThrow(/not a 64-bit little-endian ELF/);
  });
});

describe('kernel modules', () => {
  test('name their dependencies in .modinfo, with - and _ alike', () => {
    expect(moduleDependencies(elfWith({ '.modinfo': 'license=GPL\0depends=vsock,virtio-ring\0' }))).toEqual([
      'vsock',
      'virtio_ring',
    ]);
    expect(moduleDependencies(elfWith({ '.modinfo': 'depends=\0license=GPL\0' }))).toEqual([]);
  });

  test('are loaded after all that they depend on, once, and not when built in', () => {
    const graph: Record<string, string[] | undefined> = {
      virtio_pci: ['virtio_ring', 'virtio', 'legacy'],
      virtio_ring: ['virtio'],
      virtio: [],
      legacy: undefined,
      vsock: ['virtio'],
    };
    expect(loadOrder(['vsock', 'virtio_pci'], (name) => graph[name])).toEqual(['virtio', 'vsock', 'virtio_ring', 'virtio_pci']);
  });
});

/** The least that is an ELF file with sections: header, contents, the table of names, the table of sections. */
function elfWith(sections: Record<string, string>): Buffer {
  const named = Object.entries({ ...sections, '.shstrtab': '' });
  const names = Buffer.from(`${named.map(([name]) => name).join('\0')}\0`);
  const contents = named.map(([name, content]) => (name === '.shstrtab' ? names : Buffer.from(content)));
  const table = Buffer.alloc(named.length * 64);
  let offset = 64;
  contents.forEach((content, index) => {
    table.writeUInt32LE(names.indexOf(`${named[index]?.[0]}\0`), index * 64);
    table.writeBigUInt64LE(BigInt(offset), index * 64 + 0x18);
    table.writeBigUInt64LE(BigInt(content.length), index * 64 + 0x20);
    offset += content.length;
  });
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01', 'latin1');
  header.writeBigUInt64LE(BigInt(offset), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(named.length, 0x3c);
  header.writeUInt16LE(named.length - 1, 0x3e);
  return Buffer.concat([header, ...contents, table]);
}
