/**
 * The other files that a qcow2 image makes QEMU open: its backing file and its external data file (QEMU docs/interop/qcow2.txt). Their names
 * stand in the image's header, and a guest that had the file as a raw disk may have written that header itself.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';

const MAGIC = 0x5146_49fb;
const HEADER_BYTES = 104;
/** A backing file's name has at most 1023 bytes and stands, as the extensions do, in the first cluster: 2 MiB at most, mostly 64 KiB. */
const MAX_NAME_BYTES = 1023;
const READ_BYTES = 64 * 1024;
const CLUSTER_BITS = { least: 9, most: 21 };
/** Bit 2 of the incompatible features. */
const EXTERNAL_DATA = 4n;
const EXTENSION = { END: 0, BACKING_FORMAT: 0xe279_2aca, DATA_FILE: 0x4441_5441 } as const;

export interface Qcow2Files {
  /** Absolute, links and `..` as they are written. Its format is as the header says, for QEMU would look for itself otherwise. */
  readonly backing: { readonly path: string; readonly format: 'raw' | 'qcow2' } | undefined;
  /** Absolute. */
  readonly data: string | undefined;
}

/**
 * Undefined for a file that is no qcow2 image, or cannot be read: QEMU refuses it.
 * @throws FairleadError PERMISSION_DENIED for a header from which it cannot be told what QEMU would open
 */
export async function filesOfQcow2(path: string): Promise<Qcow2Files | undefined> {
  const file = await openFile(path);
  if (file === undefined) return undefined;
  await using _ = file;
  const head = Buffer.alloc(READ_BYTES);
  const { bytesRead } = await file.read(head, 0, head.length, 0);
  if (bytesRead < 72 || head.readUInt32BE(0) !== MAGIC) return undefined;
  const isVersion2 = head.readUInt32BE(4) < 3;
  if (!isVersion2 && bytesRead < HEADER_BYTES) throw unclear(path, 'its header is cut short');
  const extensions = readExtensions(head.subarray(0, bytesRead), isVersion2 ? 72 : head.readUInt32BE(100), path);
  const backing = await backingName(file, head, path);
  const hasData = !isVersion2 && (head.readBigUInt64BE(72) & EXTERNAL_DATA) !== 0n;
  const data = extensions.get(EXTENSION.DATA_FILE);
  if (hasData && data === undefined) throw unclear(path, 'its external data file has no name');
  return {
    backing:
      backing === undefined
        ? undefined
        : { path: backingFile(backing, path), format: backingFormat(extensions.get(EXTENSION.BACKING_FORMAT), path) },
    data: hasData && data !== undefined ? dataFile(data, path) : undefined,
  };
}

/** Nothing but a file or block device is opened, and none is waited for: a FIFO would hold a thread until it has a writer. */
async function openFile(path: string): Promise<FileHandle | undefined> {
  try {
    const target = await stat(path);
    if (!target.isFile() && !target.isBlockDevice()) return undefined;
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

async function backingName(file: FileHandle, head: Buffer, path: string): Promise<string | undefined> {
  const offset = head.readBigUInt64BE(8);
  const length = head.readUInt32BE(16);
  if (offset === 0n) return undefined;
  if (length > MAX_NAME_BYTES) throw unclear(path, 'its backing file has no name');
  const name = Buffer.alloc(length);
  const { bytesRead } = await file.read(name, 0, length, Number(offset));
  return textOf(name.subarray(0, bytesRead), path);
}

/**
 * Each is u32 type, u32 length and the data, padded to 8 bytes. To where QEMU reads them and no further: what looks like one behind that
 * would count here alone, and take the place of the one that counts.
 */
function readExtensions(head: Buffer, from: number, path: string): Map<number, string> {
  const found = new Map<number, string>();
  const end = endOfExtensions(head, path);
  let at = from;
  while (at < end) {
    if (at + 8 > Math.min(end, head.length)) throw unclear(path, 'its header extensions have no end');
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === EXTENSION.END) return found;
    if (at + 8 + length > Math.min(end, head.length)) throw unclear(path, 'a header extension is cut short');
    const isName = type === EXTENSION.BACKING_FORMAT || type === EXTENSION.DATA_FILE;
    if (isName) found.set(type, textOf(head.subarray(at + 8, at + 8 + length), path));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

/** The name of the backing file, where there is one, else the end of the first cluster. */
function endOfExtensions(head: Buffer, path: string): number {
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < CLUSTER_BITS.least || clusterBits > CLUSTER_BITS.most) throw unclear(path, 'its clusters have no size');
  const backingOffset = head.readBigUInt64BE(8);
  if (backingOffset > 2 ** clusterBits) throw unclear(path, 'its backing file has no name');
  return backingOffset === 0n ? 2 ** clusterBits : Number(backingOffset);
}

/** QEMU takes `json:…` and `nbd://…` in place of a name, and a relative one from the image's directory. */
function backingFile(name: string, path: string): string {
  if (name === '' || /^[^/]*:/.test(name)) throw unclear(path, 'it names something that is no plain file');
  return name.startsWith('/') ? name : `${dirname(path)}/${name}`;
}

/** QEMU takes a relative one from its own working directory (tried on 7.2), which is none that an image could mean. */
function dataFile(name: string, path: string): string {
  if (!name.startsWith('/')) throw unclear(path, 'its external data file is not named by an absolute path');
  return name;
}

/** Other bytes would be looked for under another name than QEMU opens. */
function textOf(bytes: Buffer, path: string): string {
  const text = bytes.toString('utf8');
  if (text.includes('\0') || !Buffer.from(text).equals(bytes)) throw unclear(path, 'it names something that is no plain file');
  return text;
}

function backingFormat(format: string | undefined, path: string): 'raw' | 'qcow2' {
  if (format === 'raw' || format === 'qcow2') return format;
  throw unclear(path, 'it does not say that its backing file is raw or qcow2 (qemu-img rebase -u -F states it)');
}

function unclear(path: string, why: string): FairleadError {
  return new FairleadError('PERMISSION_DENIED', `${path} may not be given to a guest: ${why}`, {
    details: { setting: 'imageRoots' },
  });
}
