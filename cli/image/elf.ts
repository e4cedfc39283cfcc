/**
 * Reads what the image builder needs to know of ELF files (64-bit, little-endian): a section's bytes, the shared libraries that a
 * program names, its interpreter. See elf(5).
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';

/** Byte offsets in Elf64_Ehdr and Elf64_Shdr. */
const HEADER = { sectionTable: 0x28, sectionSize: 0x3a, sectionCount: 0x3c, namesIndex: 0x3e } as const;
const SECTION = { name: 0x00, offset: 0x18, size: 0x20 } as const;
const DT_NEEDED = 1;
const DYNAMIC_ENTRY_BYTES = 16;

/** The bytes of a section, or undefined when the file has none of that name. */
export function readSection(file: Buffer, name: string): Buffer | undefined {
  if (file.toString('latin1', 0, 6) !== '\x7fELF\x02\x01')
    throw new FairleadError('UNSUPPORTED', 'not a 64-bit little-endian ELF file');
  const table = Number(file.readBigUInt64LE(HEADER.sectionTable));
  const entrySize = file.readUInt16LE(HEADER.sectionSize);
  const sectionAt = (index: number): Buffer => file.subarray(table + index * entrySize, table + (index + 1) * entrySize);
  const contentOf = (section: Buffer): Buffer => {
    const offset = Number(section.readBigUInt64LE(SECTION.offset));
    return file.subarray(offset, offset + Number(section.readBigUInt64LE(SECTION.size)));
  };
  const names = contentOf(sectionAt(file.readUInt16LE(HEADER.namesIndex)));
  for (let index = 0; index < file.readUInt16LE(HEADER.sectionCount); index++) {
    const section = sectionAt(index);
    if (readText(names, section.readUInt32LE(SECTION.name)) === name) return contentOf(section);
  }
  return undefined;
}

/** Names of the shared libraries that a program or library asks for (DT_NEEDED), empty for a static one. */
export function neededLibraries(file: Buffer): string[] {
  const dynamic = readSection(file, '.dynamic');
  const strings = readSection(file, '.dynstr');
  if (dynamic === undefined || strings === undefined) return [];
  const needed: string[] = [];
  for (let at = 0; at + DYNAMIC_ENTRY_BYTES <= dynamic.length; at += DYNAMIC_ENTRY_BYTES) {
    if (dynamic.readBigUInt64LE(at) === BigInt(DT_NEEDED))
      needed.push(readText(strings, Number(dynamic.readBigUInt64LE(at + 8))));
  }
  return needed;
}

/** Path of the dynamic loader, such as `/lib64/ld-linux-x86-64.so.2`, or undefined for a static program or a library. */
export function interpreter(file: Buffer): string | undefined {
  const section = readSection(file, '.interp');
  return section === undefined ? undefined : readText(section, 0);
}

/**
 * All shared libraries that the given files need, directly or not: name to real path. Each is looked for in the folders in order.
 * Rejects with the library's and its user's name when one is nowhere.
 */
export function libraryClosure(files: readonly string[], folders: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const queue = [...files];
  for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
    for (const name of neededLibraries(readFileSync(path))) {
      if (found.has(name)) continue;
      const library = folders.map((folder) => join(folder, name)).find((candidate) => existsSync(candidate));
      if (library === undefined)
        throw new FairleadError('NOT_FOUND', `${path} needs ${name}, which is in none of ${folders.join(', ')}`);
      found.set(name, realpathSync(library));
      queue.push(realpathSync(library));
    }
  }
  return found;
}

function readText(bytes: Buffer, start: number): string {
  return bytes.toString('utf8', start, bytes.indexOf(0, start));
}
