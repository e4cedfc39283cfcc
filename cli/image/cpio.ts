/**
 * Writes cpio archives in the "newc" format, the one that the kernel reads as an initramfs
 * (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * The same entries give the same bytes: entries are sorted by path, owned by root, dated 1970. Parent folders that are not listed are
 * made. Paths are relative, without a leading slash or `..`.
 */
import { FairleadError } from '../../shared/errors.ts';

export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly content: Uint8Array; readonly executable?: boolean }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | { readonly kind: 'device'; readonly path: string; readonly major: number; readonly minor: number };

/** File types and permissions, as st_mode (inode(7)). */
const MODE = { directory: 0o040755, file: 0o100644, executable: 0o100755, link: 0o120777, device: 0o020600 } as const;
const ALIGNMENT_BYTES = 4;
const END_OF_ARCHIVE = 'TRAILER!!!';

export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const sorted = withParents(entries).sort((a, b) => (a.path < b.path ? -1 : 1));
  const parts = sorted.flatMap((entry, index) => record(entry, index + 1));
  return Buffer.concat([
    ...parts,
    ...rawRecord({ name: END_OF_ARCHIVE, inode: 0, mode: 0, content: new Uint8Array(), major: 0, minor: 0 }),
  ]);
}

function withParents(entries: readonly CpioEntry[]): CpioEntry[] {
  const byPath = new Map<string, CpioEntry>();
  for (const entry of entries) {
    checkPath(entry.path);
    if (byPath.has(entry.path)) throw new FairleadError('CONFLICT', `two entries of the archive are called ${entry.path}`);
    byPath.set(entry.path, entry);
  }
  for (const { path } of entries) {
    for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) {
      const parent = path.slice(0, slash);
      if (!byPath.has(parent)) byPath.set(parent, { kind: 'directory', path: parent });
    }
  }
  return [...byPath.values()];
}

function checkPath(path: string): void {
  const ok = path !== '' && !path.includes('\0') && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
  if (!ok)
    throw new FairleadError(
      'INVALID_PARAMS',
      `an archive entry cannot be called ${JSON.stringify(path)}: paths are relative and plain`,
    );
}

function record(entry: CpioEntry, inode: number): Uint8Array[] {
  const raw = { name: entry.path, inode, mode: MODE[entry.kind], content: new Uint8Array(), major: 0, minor: 0 };
  switch (entry.kind) {
    case 'directory':
      return rawRecord(raw);
    case 'file':
      return rawRecord({ ...raw, mode: entry.executable === true ? MODE.executable : MODE.file, content: entry.content });
    case 'link':
      return rawRecord({ ...raw, content: Buffer.from(entry.target) });
    default:
      return rawRecord({ ...raw, major: entry.major, minor: entry.minor });
  }
}

interface RawRecord {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly content: Uint8Array;
  readonly major: number;
  readonly minor: number;
}

/** Magic, thirteen fields of eight hexadecimal digits, the name with its NUL, the content; name and content each padded to four bytes. */
function rawRecord({ name, inode, mode, content, major, minor }: RawRecord): Uint8Array[] {
  const nameBytes = Buffer.from(`${name}\0`);
  const links = 1;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, major, minor, nameBytes.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [header, nameBytes, padding(header.length + nameBytes.length), content, padding(content.length)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT_BYTES - (length % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES);
}
