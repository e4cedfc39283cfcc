/**
 * The state of a guest's devices and CPUs, out of a QEMU into a file and back: a migration that leaves out the RAM, which stays where it
 * is (`x-ignore-shared`). No shell, no path that QEMU would have to open.
 *
 *     save   the agent listens in the run directory ── migrate ──▶ QEMU connects and sends ──▶ file (0600, hashed on the way, fsynced where asked)
 *     load   file, checked ──▶ the agent sends through a socket that QEMU was started with ── migrate-incoming ──▶ QEMU reads
 *
 * QEMU's guest does not run meanwhile, on either side.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { runCommand } from '../../qmp/commands.ts';
import type { QmpListener } from '../../qmp/events.ts';
import { INCOMING_FD } from '../argv/host.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { restrictSocket } from '../plain-socket.ts';
import type { Session } from '../session.ts';
import type { FileOwner } from './ram-file.ts';
import type { DeviceStateSum } from './suspension.ts';

/** What of a VM is needed here; a LiveVm is one. */
export type MigratingVm = Pick<LiveVm, 'name' | 'signal' | 'execute' | 'listen'>;

/** Of a guest that is being loaded, when there is no LiveVm yet. */
export function migratingVm(session: Session): MigratingVm {
  return {
    name: session.vm,
    signal: session.signal,
    execute: (command, args, { signal, remainingMs }) =>
      runCommand(session.qmp, command, args, { signal, timeoutMs: remainingMs }),
    listen: (options) => session.qmp.listen(options),
  };
}

export interface Transfer {
  readonly runDir: string;
  readonly limits: CommandLimits;
  /** Whom QEMU runs as, where not as the agent. */
  readonly owner: FileOwner | undefined;
}

/** Far more than the devices of a machine take; what is larger is no device state. */
const MAX_BYTES = 512 * 1024 ** 2;
const SOCKET = 'state.sock';

/** For the next migration of this QEMU, whichever way: whether it leaves out RAM that is in shared files. */
export async function ignoreSharedRam(vm: MigratingVm, isIgnored: boolean, limits: CommandLimits): Promise<void> {
  const capabilities = [
    { capability: 'events', state: true },
    { capability: 'x-ignore-shared', state: isIgnored },
  ] as const;
  await vm.execute('migrate-set-capabilities', { capabilities: [...capabilities] }, limits);
}

/**
 * Resolves when all of it is in the file, and with `durable` on the disk. After a failure the migration may still be under way, and there may be a file.
 * @throws FairleadError QMP_FAILED with QEMU's reason, or the error of the file system.
 */
export async function saveDeviceState(
  vm: MigratingVm,
  path: string,
  { runDir, limits, owner, durable }: Transfer & { readonly durable: boolean },
): Promise<DeviceStateSum> {
  await rm(path, { force: true });
  await using file = await open(path, 'wx', 0o600);
  const socketPath = join(runDir, SOCKET);
  const server = await listenOnce(socketPath, owner);
  try {
    using events = vm.listen({ names: ['MIGRATION'] });
    const arriving = once(server, 'connection', { signal: limits.signal });
    arriving.catch(() => {});
    await vm.execute('migrate', { uri: `unix:${socketPath}` }, limits);
    const ended = migrationEnd(vm, events, limits);
    ended.catch(() => {});
    // SAFETY: a server of node:net emits 'connection' with a socket.
    const [socket] = (await Promise.race([arriving, ended.then(() => arriving)])) as [Socket];
    const [sum] = await bothOf(receive(socket, file, limits.signal), ended);
    if (durable) await file.sync();
    return sum;
  } finally {
    server.close();
    await rm(socketPath, { force: true });
  }
}

/** @throws FairleadError WRONG_STATE for a file that is not what was saved. */
export async function readDeviceState(vm: string, path: string, sum: DeviceStateSum): Promise<Buffer> {
  const give = (why: string): never => {
    const message = `the saved state of VM ${vm} ${why}: ${path}`;
    throw new FairleadError(
      'WRONG_STATE',
      `${message}; without it the guest cannot go on, and vm.stop with graceMs 0 gives it up`,
      {
        details: { vm, path },
      },
    );
  };
  const bytes = await readFile(path).catch((error: unknown) => give(`cannot be read (${toFairleadError(error).message})`));
  if (bytes.length !== sum.bytes) give(`has ${bytes.length} bytes instead of ${sum.bytes}`);
  if (createHash('sha256').update(bytes).digest('hex') !== sum.sha256) give('is not what was saved (its SHA-256 differs)');
  return bytes;
}

/** Into a QEMU that was started with `-incoming defer`. @throws FairleadError QMP_FAILED with QEMU's reason. */
export async function loadDeviceState(session: Session, state: Buffer, limits: CommandLimits): Promise<void> {
  await loadThrough(session, limits, async (socket) => {
    const finished = once(socket, 'finish', { signal: limits.signal });
    socket.end(state);
    await finished;
  });
}

/** Has QEMU read what `send` sends it; that ends early where QEMU does not like it. */
export async function loadThrough(
  session: Session,
  limits: CommandLimits,
  send: (socket: Socket) => Promise<void>,
): Promise<void> {
  const vm = migratingVm(session);
  const { incoming: socket } = session.process;
  if (socket === undefined) throw new FairleadError('INTERNAL', `QEMU of VM ${vm.name} was not started for a saved guest`);
  try {
    using events = vm.listen({ names: ['MIGRATION'] });
    const asked = vm.execute('migrate-incoming', { uri: `fd:${INCOMING_FD}` }, limits);
    const ended = asked.then(() => migrationEnd(vm, events, limits));
    ended.catch(() => {});
    const sent = send(socket);
    sent.catch(() => {});
    await Promise.all([Promise.race([sent, ended.then(() => sent)]), ended]);
  } finally {
    socket.destroy();
  }
}

/** @throws FairleadError QMP_FAILED when it failed or was cancelled. */
export async function migrationEnd(vm: MigratingVm, events: QmpListener, limits: CommandLimits): Promise<void> {
  const signal = AbortSignal.any([limits.signal, vm.signal]);
  for (;;) {
    const { data } = await events.take({ signal });
    const status = data['status'];
    if (status === 'completed') return;
    if (status !== 'failed' && status !== 'cancelled') continue;
    const { 'error-desc': why } = await vm.execute('query-migrate', {}, limits);
    throw new FairleadError('QMP_FAILED', `the state of VM ${vm.name} could not be moved: ${why ?? `QEMU says ${status}`}`, {
      details: { vm: vm.name, status },
    });
  }
}

/** A socket that only the owner can connect to, and only once. */
export async function listenOnce(path: string, owner: FileOwner | undefined): Promise<Server> {
  await rm(path, { force: true });
  const server = createServer({ allowHalfOpen: true });
  server.maxConnections = 1;
  server.listen(path);
  await once(server, 'listening');
  restrictSocket(path, owner);
  return server;
}

/** A file's `write` may take less than it is given: on a disk that is nearly full, the one before that fails. */
export async function writeWhole(file: FileHandle, chunk: Buffer): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at)).bytesWritten;
}

async function receive(socket: Socket, file: FileHandle, signal: AbortSignal): Promise<DeviceStateSum> {
  const giveUp = (): void => void socket.destroy(toFairleadError(signal.reason));
  signal.addEventListener('abort', giveUp, { once: true });
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    // SAFETY: a socket without an encoding gives buffers.
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_BYTES) throw new FairleadError('INTERNAL', `the state of devices has more than ${MAX_BYTES} bytes`);
      hash.update(chunk);
      await writeWhole(file, chunk);
    }
    return { bytes, sha256: hash.digest('hex') };
  } finally {
    signal.removeEventListener('abort', giveUp);
    socket.destroy();
  }
}

/** Of two that end together or not at all: the first failure ends the wait. */
async function bothOf<A, B>(one: Promise<A>, other: Promise<B>): Promise<[A, B]> {
  one.catch(() => {});
  other.catch(() => {});
  return Promise.all([one, other]);
}
