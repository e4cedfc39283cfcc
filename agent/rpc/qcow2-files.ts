/**
 * The other files that a qcow2 image makes QEMU open: its backing file and its external data file (QEMU docs/interop/qcow2.txt). Their names
 * stand in the image's header, and a guest that had the file as a raw disk may have written that header itself.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';

const MAGIC = 0x5146_49fb;
const HEADER_BYTES = 104;
/** A backing file's name has at most 1023 bytes and stands, as the extensions do, in the first cluster: 2 MiB at most, mostly 64 KiB. */
const MAX_NAME_BYTES = 1023;
const FIRST_CLUSTER_BYTES = 64 * 1024;
/** Bit 2 of the incompatible features. */
const EXTERNAL_DATA = 4n;
const EXTENSION = { END: 0, BACKING_FORMAT: 0xe279_2aca, DATA_FILE: 0x4441_5441 } as const;

export interface Qcow2Files {
  /** Absolute. Its format is as the header says, for QEMU would look for itself otherwise. */
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
  const head = Buffer.alloc(FIRST_CLUSTER_BYTES);
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
        : { path: fileName(backing, path), format: backingFormat(extensions.get(EXTENSION.BACKING_FORMAT), path) },
    data: hasData && data !== undefined ? fileName(data, path) : undefined,
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
  if (length > MAX_NAME_BYTES || offset > BigInt(Number.MAX_SAFE_INTEGER)) throw unclear(path, 'its backing file has no name');
  const name = Buffer.alloc(length);
  const { bytesRead } = await file.read(name, 0, length, Number(offset));
  return name.toString('utf8', 0, bytesRead);
}

/** Each is u32 type, u32 length and the data, padded to 8 bytes. */
function readExtensions(head: Buffer, from: number, path: string): Map<number, string> {
  const found = new Map<number, string>();
  for (let at = from; at + 8 <= head.length; ) {
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === EXTENSION.END) return found;
    if (at + 8 + length > head.length) throw unclear(path, 'a header extension is cut short');
    found.set(type, head.toString('utf8', at + 8, at + 8 + length));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  throw unclear(path, 'its header extensions have no end');
}

/** QEMU takes `json:…` and `nbd://…` in place of a name, and a relative one from the image's directory. */
function fileName(name: string, path: string): string {
  if (name === '' || name.includes('\0') || /^[^/]*:/.test(name)) throw unclear(path, 'it names something that is no plain file');
  return resolve(dirname(path), name);
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
