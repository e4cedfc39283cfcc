/**
 * Starting the QEMU process, detached in a session of its own, so that it outlives the agent.
 *
 * The QMP socket is made here and inherited: QEMU finds it listening, and one connect reaches it however early it comes; nobody waits
 * for a file to appear. Node unlinks the path that a server was bound to when the server is closed, hence the rename before; and the
 * server is closed before anybody connects, for it would take the connection itself. It does not block, either: of a socket of QEMU's own
 * two of its threads may accept one client while the monitor moves to its thread, and the later one, its main loop, waits for another.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, renameSync } from 'node:fs';
import net from 'node:net';
import { socketFd } from '../../native/socket-fd.ts';
import { FairleadError } from '../../shared/errors.ts';
import { identityOf, isAlive, type ProcessIdentity, processExit, signalProcess } from '../process-identity.ts';
import { INCOMING_FD } from './argv/host.ts';
import { type ProcessGuard, spawnGuarded } from './confinement/guarded-spawn.ts';
import { openPlainSync } from './logs/plain-file.ts';
import { restrictSocket } from './plain-socket.ts';
import { TRAIL_REQUEST } from './trail.ts';

export interface ProcessExit {
  /** Both null for a process that is not our child. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface QemuProcess {
  readonly identity: ProcessIdentity;
  /** Settles when the process is gone; never rejects. */
  readonly exited: Promise<ProcessExit>;
  hasExited(): boolean;
  /** Sent to this process and to no other that may have its pid by then. */
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
  /** What INCOMING_FD of a process is that a saved guest is to go into. Destroyed at its end at the latest. */
  readonly incoming?: net.Socket | undefined;
}

export interface SpawnRequest {
  readonly binary: string;
  readonly argv: readonly string[];
  readonly qmpSocket: string;
  /** Becomes VHOST_FD of the process; stays open here, for its owner to close. */
  readonly vhostFd: number | undefined;
  /** A saved guest is to go into it. */
  readonly isIncoming: boolean;
  /** Gets standard error, appended. */
  readonly logFile: string;
  /** Gets standard output, on which QEMU tells its events (trail.ts). */
  readonly trailFile: string;
  readonly guard: ProcessGuard;
}

/**
 * What QEMU needs of the environment; the agent's own secrets are not among it, and neither are directories of its user. Nor is a setting that
 * puts its heap into huge pages, which saves 3 ms of a start where some are free: where none is, the search for one costs 20 (tried).
 */
const ENVIRONMENT = ['PATH', 'LANG', 'LC_ALL', 'TMPDIR', 'LD_LIBRARY_PATH', 'QEMU_MODULE_DIR'];

/** @throws FairleadError PROCESS_FAILED when the program cannot be run. */
export async function spawnQemu(request: SpawnRequest): Promise<QemuProcess> {
  const listener = await listen(request.qmpSocket);
  const log = openPlainSync(request.logFile, 'append');
  const trail = openPlainSync(request.trailFile, 'append');
  try {
    const { binary, argv, vhostFd, isIncoming, guard } = request;
    const descriptors = [trail, log, socketFd(listener), vhostFd, isIncoming ? ('pipe' as const) : undefined];
    const child = spawnGuarded({ binary, argv, env: environment(), input: 'pipe', descriptors, guard });
    const process = await ownProcess(child, binary);
    beginTrail(child);
    return process;
  } finally {
    closeSync(log);
    closeSync(trail);
    listener.close();
  }
}

/** A process that an earlier agent started. */
export function adoptedProcess(identity: ProcessIdentity, signal: AbortSignal): QemuProcess {
  const gone = { code: null, signal: null };
  const forever = new Promise<never>(() => {});
  return {
    identity,
    // When the agent goes away first, nobody is to be told that the process ended.
    exited: processExit(identity, signal).then(
      () => gone,
      () => forever,
    ),
    hasExited: () => !isAlive(identity),
    signal: (name) => void signalProcess(identity, name),
  };
}

async function ownProcess(child: ChildProcess, binary: string): Promise<QemuProcess> {
  const exited = new Promise<ProcessExit>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  try {
    await once(child, 'spawn');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new FairleadError('PROCESS_FAILED', `could not run ${binary}: ${why}`, { cause: error });
  }
  child.unref();
  // SAFETY: a child that has emitted 'spawn' has a pid.
  const pid = child.pid as number;
  // A process that is gone by now has no start time to read; `exited` is about to say so.
  const identity = identityOf(pid) ?? { pid, startTime: '' };
  // Until its exit has been collected, the pid of a child cannot be another's; after that, `kill` does nothing.
  const hasExited = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const incoming = incomingOf(child);
  void exited.then(() => incoming?.destroy());
  return { identity, exited, hasExited, signal: (name) => void child.kill(name), incoming };
}

function incomingOf({ stdio }: ChildProcess): net.Socket | undefined {
  const socket = stdio.at(INCOMING_FD);
  if (!(socket instanceof net.Socket)) return undefined;
  // Who sends through it is told; nobody is missed by what ends otherwise.
  return socket.on('error', () => {});
}

/** Kept open for as long as the agent lives: an end of input that overtakes the request would undo it, and one that comes later does not. */
function beginTrail({ stdin }: ChildProcess): void {
  if (stdin === null) return;
  // The process may be gone by now; `exited` says so.
  stdin.on('error', () => {});
  stdin.write(TRAIL_REQUEST);
  if (stdin instanceof net.Socket) stdin.unref();
}

async function listen(path: string): Promise<net.Server> {
  const server = net.createServer((socket) => socket.destroy());
  const bound = `${path}.new`;
  server.listen(bound);
  await once(server, 'listening');
  restrictSocket(bound);
  renameSync(bound, path);
  return server;
}

function environment(): NodeJS.ProcessEnv {
  const passed = ENVIRONMENT.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]));
  return Object.fromEntries(passed);
}
