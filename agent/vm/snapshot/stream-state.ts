/**
 * A whole guest, memory and devices, out of a QEMU into one file and back, as the migration stream that every VM can make. The way is that
 * of device-state.ts: a unix socket in the VM's run directory, which the agent owns; but there is no telling how much comes, so
 *
 *     it is as fast as the file takes it (QEMU's own limit is lifted), hashed on the way, and durable when it is told
 *     a stall is judged by bytes that do not move, not by a total time
 *     given up for whatever reason, the migration is cancelled and has ended when that is told: the guest is as it was
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { Deadline, orAborted } from '../deadline.ts';
import type { CommandLimits } from '../live-vm.ts';
import { migrationOf } from '../migration/migration-status.ts';
import type { Session } from '../session.ts';
import type { Content } from './content.ts';
import {
  ignoreSharedRam,
  listenOnce,
  loadThrough,
  type MigratingVm,
  migratingVm,
  migrationEnd,
  type Transfer,
  writeWhole,
} from './device-state.ts';

export interface StreamProgress {
  readonly savedBytes: number;
  readonly bytesPerSecond: number;
  readonly remainingBytes?: number | undefined;
  readonly remainingMs?: number | undefined;
}

export interface StreamTransfer extends Transfer {
  readonly stallTimeoutMs: number;
  /** Must not throw. */
  readonly onProgress?: ((progress: StreamProgress) => void) | undefined;
}

const SOCKET = 'stream.sock';
const PROGRESS_MS = 500;
/** Cancelling only closes what is open. */
const CANCEL_TIMEOUT_MS = 10_000;
const PIECE_BYTES = 1024 ** 2;

/** Resolves when it is durable. @throws FairleadError QMP_FAILED, TIMEOUT for a stall, STORAGE_FAILED, CANCELLED. There may be a file then. */
export async function saveStream(vm: MigratingVm, path: string, transfer: StreamTransfer): Promise<Content> {
  const { runDir, owner, limits: given } = transfer;
  await rm(path, { force: true });
  await using file = await open(path, 'wx', 0o600);
  const socketPath = join(runDir, SOCKET);
  const server = await listenOnce(socketPath, owner);
  using stall = new Stall(vm.name, transfer.stallTimeoutMs);
  const signal = AbortSignal.any([given.signal, stall.signal, vm.signal]);
  const limits: CommandLimits = {
    signal,
    get remainingMs() {
      return given.remainingMs;
    },
  };
  try {
    using events = vm.listen({ names: ['MIGRATION'] });
    await ignoreSharedRam(vm, false, limits);
    await vm.execute('migrate-set-parameters', { 'max-bandwidth': 0 }, limits);
    const arriving = once(server, 'connection', { signal });
    arriving.catch(() => {});
    await vm.execute('migrate', { uri: `unix:${socketPath}` }, limits);
    const ended = migrationEnd(vm, events, limits);
    ended.catch(() => {});
    // SAFETY: a server of node:net emits 'connection' with a socket.
    const [socket] = (await Promise.race([arriving, ended.then(() => arriving)])) as [Socket];
    const receiving = receive(vm, socket, file, { limits, stall, onProgress: transfer.onProgress });
    receiving.catch(() => {});
    const [content] = await Promise.all([receiving, ended]);
    await file.sync();
    return content;
  } catch (error) {
    if (!vm.signal.aborted) await cancel(vm);
    throw signal.aborted ? toFairleadError(signal.reason) : error;
  } finally {
    server.close();
    await rm(socketPath, { force: true });
  }
}

/** Fires when no byte has moved for too long. */
class Stall implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(vm: string, timeoutMs: number) {
    const message = `saving VM ${vm} was given up: no byte has moved for ${timeoutMs} ms`;
    const give = (): void => this.#controller.abort(new FairleadError('TIMEOUT', message, { details: { vm } }));
    this.#timer = setTimeout(give, timeoutMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  moved(): void {
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** Into a QEMU that waits. @throws FairleadError WRONG_STATE for a file that is not what was saved, and then nothing of it counts. */
export async function loadStream(session: Session, path: string, saved: Content, limits: CommandLimits): Promise<void> {
  await ignoreSharedRam(migratingVm(session), false, limits);
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  await loadThrough(session, limits, (socket) => send(socket, file, { path, saved, signal: limits.signal }));
}

interface Receiving {
  readonly limits: CommandLimits;
  readonly stall: Stall;
  readonly onProgress: StreamTransfer['onProgress'];
}

async function receive(vm: MigratingVm, socket: Socket, file: FileHandle, receiving: Receiving): Promise<Content> {
  const { limits, stall, onProgress } = receiving;
  const { signal } = limits;
  const giveUp = (): void => void socket.destroy(toFairleadError(signal.reason));
  signal.addEventListener('abort', giveUp, { once: true });
  const hash = createHash('sha256');
  let bytes = 0;
  const startedAt = performance.now();
  const reporter = onProgress && setInterval(() => void report(vm, limits, startedAt, () => bytes, onProgress), PROGRESS_MS);
  try {
    // SAFETY: a socket without an encoding gives buffers.
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      hash.update(chunk);
      await orAborted(store(file, chunk), signal);
      bytes += chunk.length;
      stall.moved();
    }
    signal.throwIfAborted();
    return { bytes, sha256: hash.digest('hex') };
  } finally {
    clearInterval(reporter);
    signal.removeEventListener('abort', giveUp);
    socket.destroy();
  }
}

async function store(file: FileHandle, chunk: Buffer): Promise<void> {
  try {
    await writeWhole(file, chunk);
  } catch (error) {
    throw new FairleadError('STORAGE_FAILED', `a snapshot could not be written: ${toFairleadError(error).message}`, {
      cause: error,
    });
  }
}

async function report(
  vm: MigratingVm,
  limits: CommandLimits,
  startedAt: number,
  savedBytes: () => number,
  onProgress: NonNullable<StreamTransfer['onProgress']>,
): Promise<void> {
  // A QEMU that does not answer is told of by what waits for it.
  const answer = await vm.execute('query-migrate', {}, limits).catch(() => undefined);
  if (answer === undefined) return;
  const { remainingBytes } = migrationOf(answer);
  const seconds = (performance.now() - startedAt) / 1000;
  const bytesPerSecond = Math.round(savedBytes() / seconds);
  const isKnown = remainingBytes !== undefined && bytesPerSecond > 0;
  const remainingMs = isKnown ? Math.round((remainingBytes / bytesPerSecond) * 1000) : undefined;
  onProgress({ savedBytes: savedBytes(), bytesPerSecond, remainingBytes, remainingMs });
}

/** What is hashed is what is sent. A stream that is wrong ends before its last piece, so that QEMU never has all of it. */
async function send(
  socket: Socket,
  file: FileHandle,
  { path, saved, signal }: { readonly path: string; readonly saved: Content; readonly signal: AbortSignal },
): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  let held: Buffer | undefined;
  // SAFETY: a stream without an encoding gives buffers.
  const pieces = file.createReadStream({ highWaterMark: PIECE_BYTES, autoClose: false, signal }) as AsyncIterable<Buffer>;
  for await (const piece of pieces) {
    hash.update(piece);
    bytes += piece.length;
    if (held !== undefined && !socket.write(held)) await once(socket, 'drain', { signal });
    held = piece;
  }
  if (bytes !== saved.bytes || hash.digest('hex') !== saved.sha256) {
    const how = bytes === saved.bytes ? 'its SHA-256 differs' : `it has ${bytes} bytes and had ${saved.bytes}`;
    throw new FairleadError('WRONG_STATE', `${path} is not what was saved: ${how}`, { details: { path } });
  }
  const finished = once(socket, 'finish', { signal });
  socket.end(held ?? Buffer.alloc(0));
  await finished;
}

/** Settles when QEMU has let go of it. */
async function cancel(vm: MigratingVm): Promise<void> {
  using deadline = new Deadline(`cancelling the snapshot of VM ${vm.name}`, { timeoutMs: CANCEL_TIMEOUT_MS, signal: vm.signal });
  using events = vm.listen({ names: ['MIGRATION'] });
  try {
    await vm.execute('migrate_cancel', {}, deadline);
    const { status = 'none' } = await vm.execute('query-migrate', {}, deadline);
    if (['none', 'completed', 'failed', 'cancelled'].includes(status)) return;
    await migrationEnd(vm, events, deadline);
  } catch {
    // It ended in one way or another, or QEMU does not answer: whoever gave it up is told why, and not this.
  }
}
