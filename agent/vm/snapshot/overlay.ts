/**
 * A new qcow2 image on top of another: nothing is in it yet, and what is written goes into it, so the one below stays as it is
 * (QEMU docs/interop/qcow2.txt, version 3). Written here rather than by qemu-img, which a host of ours need not have.
 *
 *     cluster 0        header, format of the backing file, its name
 *     cluster 1        refcount table, whose one entry is
 *     cluster 2        the refcount block: the clusters up to here and those of L1 are taken
 *     cluster 3 …      L1 table, all zero
 */
import { open, stat } from 'node:fs/promises';
import { FairleadError } from '../../../shared/errors.ts';
import type { FileOwner } from './ram-file.ts';

const MAGIC = 0x5146_49fb;
const CLUSTER_BITS = 16;
const CLUSTER = 2 ** CLUSTER_BITS;
const HEADER_BYTES = 104;
const BACKING_FORMAT = 0xe279_2aca;
const MAX_NAME_BYTES = 1023;
/** What one L2 table maps, and so one entry of L1. */
const L2_SPAN = (CLUSTER / 8) * CLUSTER;
/** Refcounts of 16 bits. */
const REFCOUNT_ORDER = 4;
const L1_CLUSTER = 3;
const SECTOR = 512;

export interface Backing {
  /** Absolute. */
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

/** @throws FairleadError UNSUPPORTED for a name that is too long, or what the file system throws; there may be a file then. */
export async function createOverlay(path: string, backing: Backing, owner?: FileOwner): Promise<void> {
  const bytes = overlayHeader(backing, await virtualSize(backing));
  await using file = await open(path, 'wx', 0o600);
  await file.writeFile(bytes);
  if (owner !== undefined) await file.chown(owner.uid, owner.gid);
  await file.sync();
}

/** Bytes of the disk that the guest sees. */
export async function virtualSize({ path, format }: Backing): Promise<bigint> {
  if (format === 'raw') {
    const { size } = await stat(path);
    return BigInt(Math.ceil(size / SECTOR) * SECTOR);
  }
  await using file = await open(path, 'r');
  const head = Buffer.alloc(32);
  await file.read(head, 0, head.length, 0);
  if (head.readUInt32BE(0) !== MAGIC) throw new FairleadError('UNSUPPORTED', `${path} is no qcow2 image`);
  return head.readBigUInt64BE(24);
}

function overlayHeader({ path, format }: Backing, size: bigint): Buffer {
  const name = Buffer.from(path);
  if (name.length > MAX_NAME_BYTES) {
    throw new FairleadError('UNSUPPORTED', `a qcow2 image cannot stand on ${path}: a name may have ${MAX_NAME_BYTES} bytes`);
  }
  const l1Entries = Number((size + BigInt(L2_SPAN) - 1n) / BigInt(L2_SPAN));
  const l1Clusters = Math.max(1, Math.ceil((l1Entries * 8) / CLUSTER));
  const image = Buffer.alloc((L1_CLUSTER + l1Clusters) * CLUSTER);
  const extension = Buffer.alloc(16);
  extension.writeUInt32BE(BACKING_FORMAT, 0);
  extension.writeUInt32BE(format.length, 4);
  extension.write(format, 8);
  // The extension of type 0 that ends them is the zeros that follow.
  const nameAt = HEADER_BYTES + extension.length + 8;

  image.writeUInt32BE(MAGIC, 0);
  image.writeUInt32BE(3, 4);
  image.writeBigUInt64BE(BigInt(nameAt), 8);
  image.writeUInt32BE(name.length, 16);
  image.writeUInt32BE(CLUSTER_BITS, 20);
  image.writeBigUInt64BE(size, 24);
  image.writeUInt32BE(l1Entries, 36);
  image.writeBigUInt64BE(BigInt(L1_CLUSTER * CLUSTER), 40);
  image.writeBigUInt64BE(BigInt(CLUSTER), 48);
  image.writeUInt32BE(1, 56);
  image.writeUInt32BE(REFCOUNT_ORDER, 96);
  image.writeUInt32BE(HEADER_BYTES, 100);
  extension.copy(image, HEADER_BYTES);
  name.copy(image, nameAt);

  image.writeBigUInt64BE(BigInt(2 * CLUSTER), CLUSTER);
  for (let cluster = 0; cluster < L1_CLUSTER + l1Clusters; cluster++) image.writeUInt16BE(1, 2 * CLUSTER + 2 * cluster);
  return image;
}
