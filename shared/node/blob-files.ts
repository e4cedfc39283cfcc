/**
 * Files that are named by what they hold (SHA-256): the images of a hub and of a host.
 *
 *     DIR/sha256/<64 digits>      whole: checked, synced, and then moved here in one step; read only, for their owner alone
 *     DIR/partial/<64 digits>     what has come so far, from which the next attempt goes on
 *
 * Of several that bring the same blob at once, one does. A disk that is full gets back what the attempt had taken of it.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, type ReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FairleadError, isFairleadError } from '../errors.ts';
import type { Digest } from '../protocol/image-ref.ts';

export interface Blob {
  readonly digest: Digest;
  readonly bytes: number;
  readonly createdAtMs: number;
}

const PRIVATE_DIRECTORY = 0o700;
const PRIVATE_FILE = 0o600;
/** What nobody has gone on with for so long is given up, in milliseconds. */
const PARTIAL_LIFE_MS = 24 * 3_600_000;
const HEX = /^[0-9a-f]{64}$/;

export interface BlobFilesOptions {
  readonly directory: string;
  /** Mode of whole blobs; on a host, other users' QEMUs read them. */
  readonly blobMode?: number | undefined;
}

export class BlobFiles {
  readonly #directory: string;
  readonly #blobMode: number;
  readonly #receiving = new Set<Digest>();

  constructor({ directory, blobMode = 0o400 }: BlobFilesOptions) {
    this.#directory = directory;
    this.#blobMode = blobMode;
  }

  /** Where the blob is, or would be. */
  pathOf(digest: Digest): string {
    return join(this.#directory, 'sha256', hexOf(digest));
  }

  /** Undefined where it is not here, or not whole. */
  async find(digest: Digest): Promise<Blob | undefined> {
    try {
      const { size, birthtimeMs, mtimeMs } = await stat(this.pathOf(digest));
      return { digest, bytes: size, createdAtMs: Math.floor(birthtimeMs || mtimeMs) };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw storageFailed(`could not look for ${digest}`, error);
    }
  }

  /** In the order of their digests. */
  async list(): Promise<Blob[]> {
    const names = await namesIn(join(this.#directory, 'sha256'));
    const found = await Promise.all(names.toSorted().map((hex) => this.find(`sha256:${hex}`)));
    return found.filter((blob) => blob !== undefined);
  }

  read(digest: Digest, offset: number): ReadStream {
    return createReadStream(this.pathOf(digest), { start: offset, highWaterMark: 64 * 1024 });
  }

  /** How many bytes of it have come, of one that is not whole. */
  async receivedOf(digest: Digest): Promise<number> {
    const found = await stat(join(this.#directory, 'partial', hexOf(digest))).catch(() => undefined);
    return found?.size ?? 0;
  }

  /**
   * Begins, or goes on with, a blob of that many bytes; write from `offset` on.
   * @throws FairleadError CONFLICT while somebody else brings it, STORAGE_FAILED
   */
  async receive(digest: Digest, bytes: number): Promise<BlobReception> {
    if (this.#receiving.has(digest)) throw new FairleadError('CONFLICT', `${digest} is being brought by somebody else already`);
    this.#receiving.add(digest);
    const release = () => this.#receiving.delete(digest);
    try {
      const partial = join(this.#directory, 'partial', hexOf(digest));
      await mkdir(join(this.#directory, 'partial'), { recursive: true, mode: PRIVATE_DIRECTORY });
      await mkdir(join(this.#directory, 'sha256'), { recursive: true, mode: 0o711 });
      const { file, hash, offset } = await resumed(partial, bytes);
      const place = { partial, whole: this.pathOf(digest), mode: this.#blobMode };
      return new BlobReception({ file, hash, offset, digest, bytes, place, release });
    } catch (error) {
      release();
      throw isFairleadError(error) ? error : storageFailed(`could not begin ${digest}`, error);
    }
  }

  async remove(digest: Digest): Promise<void> {
    try {
      await rm(this.pathOf(digest), { force: true });
    } catch (error) {
      throw storageFailed(`could not remove ${digest}`, error);
    }
  }

  /** Removes what nobody goes on with any more. */
  async forgetPartials(nowMs: number): Promise<void> {
    for (const hex of await namesIn(join(this.#directory, 'partial'))) {
      const path = join(this.#directory, 'partial', hex);
      const found = await stat(path).catch(() => undefined);
      const isOld = found !== undefined && nowMs - found.mtimeMs > PARTIAL_LIFE_MS;
      if (isOld && !this.#receiving.has(`sha256:${hex}`)) await rm(path, { force: true });
    }
  }
}

interface ReceptionParts {
  readonly file: FileHandle;
  readonly hash: Hash;
  readonly offset: number;
  readonly digest: Digest;
  readonly bytes: number;
  readonly place: { readonly partial: string; readonly whole: string; readonly mode: number };
  readonly release: () => void;
}

/** One attempt at a blob. Disposed of before it is whole, what has come stays for the next. */
export class BlobReception implements AsyncDisposable {
  readonly #parts: ReceptionParts;
  #offset: number;
  #isOpen = true;

  constructor(parts: ReceptionParts) {
    this.#parts = parts;
    this.#offset = parts.offset;
  }

  /** Bytes that are here. */
  get offset(): number {
    return this.#offset;
  }

  /** @throws FairleadError PROTOCOL_ERROR for more than was said, STORAGE_FAILED */
  async write(chunk: Uint8Array): Promise<void> {
    const { file, hash, digest, bytes, place } = this.#parts;
    if (this.#offset + chunk.length > bytes) {
      await this.#discard();
      throw new FairleadError('PROTOCOL_ERROR', `more than the ${bytes} bytes came that ${digest} was said to have`);
    }
    try {
      for (let at = 0; at < chunk.length; ) {
        at += (await file.write(chunk, at, chunk.length - at, this.#offset + at)).bytesWritten;
      }
    } catch (error) {
      // Others need the room more.
      await this.#discard();
      throw storageFailed(`could not write ${place.partial}`, error);
    }
    hash.update(chunk);
    this.#offset += chunk.length;
  }

  /** All is here. @throws FairleadError INTERRUPTED when it is not, PROTOCOL_ERROR when it is something else, STORAGE_FAILED */
  async finish(): Promise<Blob> {
    const { file, hash, digest, bytes, place } = this.#parts;
    if (this.#offset < bytes) {
      throw new FairleadError(
        'INTERRUPTED',
        `${digest} broke off after ${this.#offset} of ${bytes} bytes: what has come is kept`,
      );
    }
    const got = `sha256:${hash.digest('hex')}`;
    if (got !== digest) {
      await this.#discard();
      throw new FairleadError(
        'PROTOCOL_ERROR',
        `thrown away, for it is not what its digest says: ${got.slice(0, 19)}… came for ${digest.slice(0, 19)}…`,
      );
    }
    try {
      await file.chmod(place.mode);
      await file.sync();
      await this.#close();
      await rename(place.partial, place.whole);
      await syncDirectory(join(place.whole, '..'));
    } catch (error) {
      throw storageFailed(`could not keep ${place.whole}`, error);
    }
    return { digest, bytes, createdAtMs: Date.now() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  async #discard(): Promise<void> {
    await this.#close();
    await rm(this.#parts.place.partial, { force: true });
  }

  async #close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#parts.file.close();
    this.#parts.release();
  }
}

/** What is there is hashed again: nothing else knows how far it is what it should be. */
async function resumed(partial: string, bytes: number): Promise<{ file: FileHandle; hash: Hash; offset: number }> {
  const file = await open(partial, 'a+', PRIVATE_FILE).then(async (made) => {
    await made.close();
    return open(partial, 'r+');
  });
  try {
    const hash = createHash('sha256');
    const { size } = await file.stat();
    if (size > bytes) {
      await file.truncate(0);
      return { file, hash, offset: 0 };
    }
    let offset = 0;
    const buffer = Buffer.allocUnsafe(256 * 1024);
    while (offset < size) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, size - offset), offset);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      offset += bytesRead;
    }
    return { file, hash, offset };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => HEX.test(name));
  } catch (error) {
    if (isMissing(error)) return [];
    throw storageFailed(`could not read ${directory}`, error);
  }
}

/** @throws FairleadError INVALID_PARAMS: nothing but digits ever becomes a path */
function hexOf(digest: Digest): string {
  const hex = digest.slice('sha256:'.length);
  if (digest.startsWith('sha256:') && HEX.test(hex)) return hex;
  throw new FairleadError('INVALID_PARAMS', `${digest.slice(0, 80)} is no digest`);
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function storageFailed(what: string, cause: unknown): FairleadError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const why = code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk is full' : String(cause);
  return new FairleadError('STORAGE_FAILED', `${what}: ${why}`, { cause });
}
