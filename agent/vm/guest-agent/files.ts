/**
 * Files of a guest by its agent: read from the beginning to the end, and written so that either the whole file is there under its name or
 * nothing has changed.
 *
 *     write:  temporary file beside the target ── all bytes, flushed, closed ──▶ compared by SHA-256 ──▶ permissions, renamed
 *                └── anything goes wrong ──▶ removed
 */
import { createHash, randomBytes } from 'node:crypto';
import { FairleadError, isFairleadError } from '../../../shared/errors.ts';
import type { WrittenFile } from '../../../shared/protocol/methods-guest-files.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { GuestAgentClient } from './client.ts';
import { type ExecResult, execInGuest } from './exec.ts';

/** Of one command: what the client keeps of an answer. */
const READ_BYTES = 64 * 1024;
const WRITE_BYTES = 128 * 1024;
/** A disk of the guest may be slow. */
const REPLY_MS = 60_000;
const TIDY_MS = 10_000;
const SHELL = '/bin/sh';
const NO_SUCH_PROGRAM = 127;
/** In a refusal, and in the reason of a reset, which has 128 bytes. */
const MAX_SHOWN_PATH = 300;
const MAX_RESET_PATH = 48;

/** In place of `$2`, whose directory `$1` is in, unless it is a directory itself: then it would go into it. */
const PUT_IN_PLACE = 'if [ -d "$2" ]; then exit 20; fi; chmod "$3" "$1" && mv -f "$1" "$2"';
const IS_DIRECTORY = 20;

export interface GuestFiles {
  readonly vm: string;
  readonly agent: GuestAgentClient;
  readonly limits: CommandLimits;
}

export interface OpenedFile {
  /** Undefined where the guest cannot say. */
  readonly sizeBytes: number | undefined;
  /** Closes the file at its end, or when its reader leaves. */
  readonly chunks: AsyncGenerator<Uint8Array, void, undefined>;
}

/** The first bytes have been read by then, so that what cannot be read is told at once. @throws what GuestAgentClient.run throws */
export async function openGuestFile(files: GuestFiles, path: string): Promise<OpenedFile> {
  const { agent, limits } = files;
  let handle: number | undefined;
  try {
    handle = (await agent.run('guest-file-open', { path, mode: 'rb' }, limits, REPLY_MS)).value;
    const sizeBytes = await sizeOf(files, handle);
    const first = await read(files, handle);
    return { sizeBytes, chunks: rest(files, handle, first) };
  } catch (error) {
    if (handle !== undefined) await close(files, handle);
    throw withPath(error, 'read', files, path, MAX_SHOWN_PATH);
  }
}

export interface FileWrite {
  /** Is to be called once. @throws FairleadError GUEST_FAILED, or what the chunks throw; nothing has changed then. */
  write(chunks: AsyncIterable<Uint8Array>): Promise<WrittenFile>;
}

/** The temporary file is there by then, so that a place that cannot be written to is told at once. @throws FairleadError GUEST_FAILED */
export async function openFileForWriting(
  files: GuestFiles,
  { path, mode }: { readonly path: string; readonly mode: number },
): Promise<FileWrite> {
  const { agent, limits } = files;
  const temporary = temporaryBeside(path);
  const named = (maxLength: number) => (error: unknown) => {
    throw withPath(error, 'write', files, path, maxLength);
  };
  // Its caller may be gone meanwhile; but without the answer nobody could close the file.
  const patient = { ...limits, signal: new AbortController().signal };
  const opening = agent.run('guest-file-open', { path: temporary, mode: 'wb' }, patient, REPLY_MS);
  const { value: handle } = await opening.catch(named(MAX_SHOWN_PATH));

  const write = async (chunks: AsyncIterable<Uint8Array>): Promise<WrittenFile> => {
    try {
      const { bytes, sha256 } = await fill(files, handle, chunks);
      const verifiedBy = await verify(files, temporary, sha256);
      await putInPlace(files, { temporary, path, mode });
      return { bytes, sha256, verifiedBy };
    } catch (error) {
      await shell({ ...files, limits: tidying() }, 'rm -f "$1"', [temporary]).catch(() => {});
      throw error;
    }
  };
  return { write: (chunks) => write(chunks).catch(named(MAX_RESET_PATH)) };
}

/** In the guest's own words, and with the path that was asked for, be it that of a temporary file. */
function withPath(error: unknown, what: 'read' | 'write', { vm }: GuestFiles, path: string, maxLength: number): unknown {
  if (!isFairleadError(error) || error.code !== 'GUEST_FAILED') return error;
  const said = error.cause instanceof Error ? error.cause.message : error.message;
  // "failed to open file '/srv/.site.part' (mode: 'wb'): Permission denied" (QEMU, qga/commands-posix.c)
  const why = said.replace(/^failed to open file '.*' \(mode: '\w+'\): /s, '').replace(/^failed to write to file: /, '');
  const shown = path.length <= maxLength ? path : `…${path.slice(1 - maxLength)}`;
  return new FairleadError('GUEST_FAILED', `could not ${what} ${shown} in VM ${vm}: ${why}`, { cause: error });
}

function temporaryBeside(path: string): string {
  const at = path.lastIndexOf('/') + 1;
  return `${path.slice(0, at)}.${path.slice(at, at + 100)}.${randomBytes(6).toString('hex')}.part`;
}

async function fill(
  files: GuestFiles,
  handle: number,
  chunks: AsyncIterable<Uint8Array>,
): Promise<{ bytes: number; sha256: string }> {
  const { agent, limits } = files;
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const piece of inPieces(chunks, WRITE_BYTES)) {
      hash.update(piece);
      await write(files, handle, piece);
      bytes += piece.length;
    }
    await agent.run('guest-file-flush', { handle }, limits, REPLY_MS);
  } finally {
    await close(files, handle);
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** A full disk may take a part. */
async function write({ agent, limits }: GuestFiles, handle: number, piece: Buffer): Promise<void> {
  for (let rest = piece; rest.length > 0; ) {
    const content = rest.toString('base64');
    const { count } = (await agent.run('guest-file-write', { handle, 'buf-b64': content }, limits, REPLY_MS)).value;
    if (count === 0 || count > rest.length) {
      throw new FairleadError('GUEST_FAILED', `the guest took ${count} of ${rest.length} bytes: is its disk full?`);
    }
    rest = rest.subarray(count);
  }
}

/** By the guest itself where it can, and what was written is read back where it cannot. @throws FairleadError GUEST_FAILED */
async function verify(files: GuestFiles, path: string, sha256: string): Promise<WrittenFile['verifiedBy']> {
  const byGuest = await sumByGuest(files, path);
  if ((byGuest ?? (await sumByReading(files, path))) === sha256) return byGuest === undefined ? 'read-back' : 'sha256sum';
  throw new FairleadError('GUEST_FAILED', 'the guest does not have the bytes that were written: SHA-256 differs');
}

/** Undefined where it has no such program. */
async function sumByGuest(files: GuestFiles, path: string): Promise<string | undefined> {
  const result = await shell(files, 'sha256sum <"$1"', [path]).catch(() => undefined);
  if (result?.ended.by !== 'exit' || result.ended.code !== 0) return undefined;
  return /^[0-9a-f]{64}\b/.exec(result.stdout)?.[0];
}

async function sumByReading(files: GuestFiles, path: string): Promise<string> {
  const hash = createHash('sha256');
  const { chunks } = await openGuestFile(files, path);
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
}

async function putInPlace(
  files: GuestFiles,
  { temporary, path, mode }: { readonly temporary: string; readonly path: string; readonly mode: number },
): Promise<void> {
  const { ended, stderr } = await shell(files, PUT_IN_PLACE, [temporary, path, mode.toString(8).padStart(4, '0')]);
  if (ended.by === 'exit' && ended.code === 0) return;
  const isDirectory = ended.by === 'exit' && ended.code === IS_DIRECTORY;
  const why = isDirectory ? 'a directory has that name' : stderr.trim() || `its shell ended by ${ended.by}`;
  throw new FairleadError('GUEST_FAILED', why);
}

/** @throws FairleadError UNSUPPORTED for a guest without a shell */
async function shell({ vm, agent, limits }: GuestFiles, script: string, args: readonly string[]): Promise<ExecResult> {
  const request = {
    path: SHELL,
    args: ['-c', script, 'sh', ...args],
    input: '',
    encoding: 'utf8',
    timeoutMs: REPLY_MS,
    maxOutputBytes: 1024,
  } as const;
  const result = await execInGuest(
    agent,
    { ...request, args: [...request.args] },
    { vm, signal: limits.signal, answerTimeoutMs: limits.remainingMs },
  );
  if (result.ended.by !== 'exit' || result.ended.code !== NO_SUCH_PROGRAM) return result;
  throw new FairleadError(
    'UNSUPPORTED',
    `VM ${vm} lacks a program that is needed to put a file in its place: ${result.stderr.trim()}`,
  );
}

async function sizeOf({ agent, limits }: GuestFiles, handle: number): Promise<number | undefined> {
  const { position } = (await agent.run('guest-file-seek', { handle, offset: 0, whence: 'end' }, limits)).value;
  await agent.run('guest-file-seek', { handle, offset: 0, whence: 'set' }, limits);
  return position > 0 && Number.isSafeInteger(position) ? position : undefined;
}

interface Read {
  readonly bytes: Buffer;
  readonly eof: boolean;
}

async function read({ agent, limits }: GuestFiles, handle: number): Promise<Read> {
  const { value } = await agent.run('guest-file-read', { handle, count: READ_BYTES }, limits, REPLY_MS);
  return { bytes: Buffer.from(value['buf-b64'], 'base64'), eof: value.eof || value.count === 0 };
}

async function* rest(files: GuestFiles, handle: number, first: Read): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for (let part = first; ; part = await read(files, handle)) {
      if (part.bytes.length > 0) yield part.bytes;
      if (part.eof) return;
    }
  } finally {
    await close(files, handle);
  }
}

/** Its caller may be gone; the handle is given back all the same. */
async function close({ agent }: GuestFiles, handle: number): Promise<void> {
  await agent.run('guest-file-close', { handle }, tidying()).catch(() => {});
}

function tidying(): CommandLimits {
  return { signal: new AbortController().signal, remainingMs: TIDY_MS };
}

async function* inPieces(chunks: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Buffer, void, undefined> {
  let waiting: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    waiting.push(chunk);
    length += chunk.length;
    if (length < bytes) continue;
    yield Buffer.concat(waiting);
    [waiting, length] = [[], 0];
  }
  if (length > 0) yield Buffer.concat(waiting);
}
