/**
 * What is in a large file with holes: its SHA-256, and a copy of it that the one before can change no more.
 *
 * The hash is over those blocks of 1 MiB that are not all zero, each after its number (64 bits, big-endian), so that it is the same
 * wherever the holes are, and empty memory costs next to nothing.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, copyFile, open, rm, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';

const BLOCK_BYTES = 1024 ** 2;
const run = promisify(execFile);

export interface Content {
  readonly bytes: number;
  readonly sha256: string;
}

/** @param onRead is told how much was read since it was last told. */
export async function hashContent(path: string, signal: AbortSignal, onRead?: (bytes: number) => void): Promise<Content> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const hash = createHash('sha256');
  const block = Buffer.alloc(BLOCK_BYTES);
  const zeros = Buffer.alloc(BLOCK_BYTES);
  const number = Buffer.alloc(8);
  let bytes = 0;
  for (let index = 0n; ; index++) {
    signal.throwIfAborted();
    const length = await readWhole(file, block, bytes);
    if (length === 0) return { bytes, sha256: hash.digest('hex') };
    bytes += length;
    onRead?.(length);
    const part = block.subarray(0, length);
    if (part.equals(zeros.subarray(0, length))) continue;
    number.writeBigUInt64BE(index);
    hash.update(number).update(part);
  }
}

/** The SHA-256 of all of its bytes, as of a stream. */
export async function hashStream(path: string, signal: AbortSignal, onRead?: (bytes: number) => void): Promise<Content> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const hash = createHash('sha256');
  const block = Buffer.alloc(BLOCK_BYTES);
  for (let bytes = 0; ; ) {
    signal.throwIfAborted();
    const length = await readWhole(file, block, bytes);
    if (length === 0) return { bytes, sha256: hash.digest('hex') };
    bytes += length;
    onRead?.(length);
    hash.update(block.subarray(0, length));
  }
}

/**
 * A copy with the same holes, mode 0600. Where the file system can, the two share their blocks until one is written to, and it takes no
 * time. @throws FairleadError STORAGE_FAILED
 */
export async function frozenCopy(from: string, to: string, signal: AbortSignal): Promise<'reflink' | 'copy'> {
  await rm(to, { force: true });
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    await chmod(to, 0o600);
    return 'reflink';
  } catch {
    // Not on this file system, or not over two of them; what there was of a copy is gone again.
  }
  try {
    // It is a guest's memory or disk: with its mode from the beginning.
    await using file = await open(to, 'wx', 0o600);
    await file.truncate((await stat(from)).size);
  } catch (error) {
    throw toFairleadError(error, 'STORAGE_FAILED');
  }
  try {
    await run('cp', ['--sparse=always', '--no-preserve=mode', '--', from, to], { signal, env: { PATH: process.env['PATH'] } });
  } catch (error) {
    signal.throwIfAborted();
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error);
    const why = `${from} could not be copied to ${to}`;
    if (!isOtherCp(error, said)) throw new FairleadError('STORAGE_FAILED', `${why}: ${said}`, { cause: error });
    await copyInto(from, to, signal).catch((thrown: unknown) => {
      signal.throwIfAborted();
      const { message } = toFairleadError(thrown);
      throw new FairleadError('STORAGE_FAILED', `${why}: ${message}`, { cause: thrown });
    });
  }
  return 'copy';
}

/** Of a host that has busybox or the like: only GNU's asks where the holes are, and leaves them out unread. */
function isOtherCp(error: unknown, said: string): boolean {
  return (
    /(unrecognized|unknown|invalid) option/i.test(said) || (error instanceof Error && Reflect.get(error, 'code') === 'ENOENT')
  );
}

async function readWhole(
  file: { read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }> },
  block: Buffer,
  position: number,
): Promise<number> {
  let filled = 0;
  while (filled < block.length) {
    const { bytesRead } = await file.read(block, filled, block.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

/** What is not zero in the one, into the same places of the other, which is as large and empty: a process may have it mapped. */
export async function copyInto(from: string, to: string, signal: AbortSignal): Promise<void> {
  await using source = await open(from, constants.O_RDONLY | constants.O_NOFOLLOW);
  await using target = await open(to, constants.O_WRONLY | constants.O_NOFOLLOW);
  const block = Buffer.alloc(BLOCK_BYTES);
  const zeros = Buffer.alloc(BLOCK_BYTES);
  for (let at = 0; ; at += block.length) {
    signal.throwIfAborted();
    const length = await readWhole(source, block, at);
    if (length === 0) return;
    if (block.subarray(0, length).equals(zeros.subarray(0, length))) continue;
    for (let done = 0; done < length; ) done += (await target.write(block, done, length - done, at + done)).bytesWritten;
  }
}
