/**
 * vsock without vhost in the kernel: `vhost-device-vsock`, one process a VM, joined to QEMU by vhost-user and to the agent by unix
 * sockets (`vs` to dial the guest, `vs_PORT` for what the guest dials). CIDs are private to the process, so every guest has the same.
 *
 * Version 0.3.0 loses what the guest still sends when the host's side half-closes, so no half-close ever reaches it: ending the
 * stream's writable side here only stops writing, and the connection is closed when the guest closes or the stream is destroyed.
 * The daemon takes a guest's close of both directions as the end of both, and does not tell of a half-close of the guest.
 */
import { rm, stat } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { FairleadError } from '../../shared/errors.ts';
import type { ResetName } from '../../shared/mux/reset-codes.ts';
import { isAlive, isEnding } from '../process-identity.ts';
import type { Logger } from '../vm/api.ts';
import { orAborted } from '../vm/deadline.ts';
import { restrictSocket } from '../vm/plain-socket.ts';
import { DaemonQuiet } from './daemon-quiet.ts';
import { hasLostWorker, ringsAtRest, workerAtRest } from './daemon-threads.ts';
import { keepLastWords } from './last-words.ts';
import { type Lift, Reviver } from './reviver.ts';
import { endWhenStopped } from './stopped-stream.ts';
import type { GuestChange, VsockDevice, VsockDeviceState, VsockTransport } from './transport.ts';
import { endsUnless } from './true-end.ts';
import { adoptDaemon, type Daemon, type DaemonPaths, startDaemon } from './vhost-user-daemon.ts';
import { type DialOptions, VhostUserDialler } from './vhost-user-dial.ts';

const GUEST_CID = 3;
/** `sun_path` is 108 bytes with its NUL (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;
const LONGEST_PORT_SUFFIX = '_4294967294';

export interface VhostUserOptions {
  /** Path of vhost-device-vsock. */
  readonly binary: string;
  readonly logger: Logger;
  /** How often a connection that may have been stopped for good is looked at, in milliseconds; 10 s. */
  readonly lookMs?: number | undefined;
  /** How a jammed connection is revived; by the native add-on. */
  readonly lift?: Lift | undefined;
}

export function vhostUserTransport({ binary, logger, lookMs, lift }: VhostUserOptions): VsockTransport {
  return {
    kind: 'vhost-user',
    halfClose: false,
    backendIn: (runDir) => ({ kind: 'vhost-user', socketPath: pathsIn(runDir).vhost }),
    async prepare({ vm, runDir, guard, signal }) {
      const paths = pathsIn(runDir);
      const daemon = await startDaemon({ vm, binary, cid: GUEST_CID, paths, guard, signal });
      return new VhostUserDevice({ vm, paths, daemon, logger, lookMs, lift });
    },
    adopt: async ({ vm, runDir, state }) => {
      if (state.daemon === undefined || !isAlive(state.daemon)) {
        throw new FairleadError(
          'PROCESS_FAILED',
          `the vsock daemon of VM ${vm} ended while the agent was away: stop and start the VM`,
        );
      }
      return new VhostUserDevice({ vm, paths: pathsIn(runDir), daemon: adoptDaemon(state.daemon), logger, lookMs, lift });
    },
  };
}

function pathsIn(runDir: string): DaemonPaths {
  const uds = join(runDir, 'vs');
  const longest = Buffer.byteLength(uds + LONGEST_PORT_SUFFIX);
  if (longest > MAX_SOCKET_PATH_BYTES) {
    throw new FairleadError(
      'UNSUPPORTED',
      `run directory ${runDir} is too long for unix sockets: ${longest} bytes with the file names, the kernel takes ${MAX_SOCKET_PATH_BYTES}; set a shorter runDir`,
    );
  }
  return { vhost: join(runDir, 'vh'), uds, log: join(runDir, 'vsock.log') };
}

interface DeviceParts {
  readonly vm: string;
  readonly paths: DaemonPaths;
  readonly daemon: Daemon;
  readonly logger: Logger;
  readonly lookMs: number | undefined;
  readonly lift: Lift | undefined;
}

class VhostUserDevice implements VsockDevice {
  readonly cid = GUEST_CID;
  readonly halfClose = false;
  readonly vhostFd = undefined;
  readonly backend: VsockDevice['backend'];
  readonly state: VsockDeviceState;
  readonly #parts: DeviceParts;
  readonly #dialler: VhostUserDialler;
  readonly #listeners = new Map<number, Server>();
  readonly #quiet: DaemonQuiet;
  readonly #reviver: Reviver;
  /** How often the guest was paused or went on. */
  #pauses = 0;
  #disposed = false;
  /** How the daemon ended, once it has. */
  #lost: string | undefined;
  /** The daemon is ended, because its worker has. */
  #ending: Promise<void> | undefined;

  constructor(parts: DeviceParts) {
    const { vm, paths, daemon, logger } = parts;
    this.#parts = parts;
    this.backend = { kind: 'vhost-user', socketPath: paths.vhost };
    this.state = { kind: 'vhost-user', cid: GUEST_CID, daemon: daemon.identity };
    this.#quiet = new DaemonQuiet({ atRest: () => workerAtRest(daemon.identity) });
    this.#reviver = new Reviver({ daemon: daemon.identity, lift: parts.lift, onTry: () => this.#quiet.touch() });
    this.#dialler = new VhostUserDialler({ vm, udsPath: paths.uds, quiet: this.#quiet });
    void daemon.exited.then((how) => {
      this.#lost = how;
      this.#quiet.endAll();
      this.#dialler.closeParked();
      if (!this.#disposed)
        logger.error({ vm, pid: daemon.identity.pid, how }, 'vsock daemon ended, the guest cannot be reached any more');
    });
  }

  spawned(): void {}

  guestChanged(change: GuestChange): void {
    if (change === 'resumed') void this.#resumed(++this.#pauses);
    else if (change === 'paused') {
      this.#pauses += 1;
      this.#quiet.begin('paused');
    } else if (change === 'plugged') this.#quiet.begin('reset');
    else if (change === 'taken') this.#quiet.end('reset');
    // Without a port that the guest dials, nobody would ever tell that it is back.
    else if (this.#listeners.size > 0) this.#quiet.begin('reset');
  }

  settle(): Promise<void> {
    return this.#quiet.settle();
  }

  async connect(options: DialOptions): Promise<Duplex> {
    this.#assertUsable();
    const timeoutMs = await this.#whenLoud(options);
    this.#assertUsable();
    this.#quiet.touch();
    try {
      return this.#own(await this.#dialler.dial({ ...options, timeoutMs }), options.port);
    } catch (error) {
      await this.#endWithWorker();
      this.#assertUsable();
      throw error;
    } finally {
      this.#quiet.touch();
    }
  }

  async listen(port: number, onConnection: (stream: Duplex) => void): Promise<AsyncDisposable> {
    this.#assertUsable();
    if (this.#listeners.has(port)) {
      throw new FairleadError('CONFLICT', `something listens already for VM ${this.#parts.vm} on vsock port ${port}`);
    }
    const path = `${this.#parts.paths.uds}_${port}`;
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#quiet.end('reset');
      onConnection(this.#own(socket, port));
    });
    this.#listeners.set(port, server);
    try {
      // A file may be left of an agent that was killed; the directory belongs to this VM alone.
      await rm(path, { force: true });
      await listening(server, path);
      // The daemon runs as whom the directory belongs to, and has to connect.
      restrictSocket(path, await stat(dirname(path)));
    } catch (error) {
      this.#listeners.delete(port);
      server.close();
      throw error;
    }
    return {
      [Symbol.asyncDispose]: async () => {
        if (this.#listeners.delete(port)) server.close();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    const { daemon, paths } = this.#parts;
    // Connections go on, and are their owners' affair; the socket files go at once.
    for (const server of this.#listeners.values()) server.close();
    this.#listeners.clear();
    await daemon.stop();
    this.#quiet.endAll();
    this.#dialler.closeParked();
    await Promise.all([rm(paths.uds, { force: true }), rm(paths.vhost, { force: true })]);
  }

  /** Whoever waits for the guest goes on the moment that it is back. Resolves with the time that is left. */
  async #whenLoud({ timeoutMs, signal }: DialOptions): Promise<number> {
    if (this.#quiet.reason === undefined) return timeoutMs;
    const endsAt = performance.now() + timeoutMs;
    const limit = AbortSignal.timeout(Math.ceil(timeoutMs));
    await orAborted(this.#quiet.over(), signal === undefined ? limit : AbortSignal.any([signal, limit])).catch(() => {});
    signal?.throwIfAborted();
    const { reason } = this.#quiet;
    if (reason === undefined) return Math.max(1, endsAt - performance.now());
    const why = reason === 'paused' ? 'it is paused' : 'it was reset, or got its device, and its driver is not back yet';
    throw new FairleadError('GUEST_UNREACHABLE', `guest ${this.#parts.vm} cannot be reached on vsock: ${why}`);
  }

  /** QEMU has said that the rings turn again, and the daemon is to have heard it. */
  async #resumed(pauses: number): Promise<void> {
    if (this.#quiet.reason === undefined) return;
    await ringsAtRest(this.#parts.daemon.identity);
    if (pauses !== this.#pauses) return;
    this.#quiet.end('paused');
    await this.#endWithWorker();
  }

  /** A daemon that carries nothing any more is ended: what is open ends with an error then, and who comes next is told at once. */
  async #endWithWorker(): Promise<void> {
    const { vm, daemon, logger } = this.#parts;
    if (!(await hasLostWorker(daemon.identity))) return;
    if (this.#disposed || this.#lost !== undefined) return;
    try {
      await (this.#ending ??= daemon.stop());
      await daemon.exited;
    } catch (error) {
      logger.error({ vm, err: String(error) }, 'vsock daemon carries nothing any more, and could not be ended');
    }
  }

  #own(socket: Socket, port: number): Socket {
    const { vm, daemon, logger, lookMs } = this.#parts;
    endsUnless(socket, () => (isEnding(daemon.identity) ? resetOf(vm, 'its vsock daemon ended', 'NO_DEVICE') : undefined));
    const revival = endWhenStopped(socket, {
      isQuiet: () => this.#quiet.isSettled,
      whenLoud: () => this.#quiet.over(),
      reviver: this.#reviver,
      onRevived: (times) => {
        if (times === 1) logger.info({ vm, port }, 'vhost-device-vsock jammed a connection, it was revived');
      },
      error: (why) => resetOf(vm, why, 'TIMEOUT'),
      lookMs,
    });
    socket.once('close', () => {
      const { times } = revival;
      if (times > 0) logger.info({ vm, port, times }, 'connection closed that vhost-device-vsock had jammed');
    });
    return keepLastWords(this.#quiet.guard(withoutHalfClose(socket)), { resetIsEnd: true });
  }

  #assertUsable(): void {
    const { vm } = this.#parts;
    if (this.#disposed) throw new FairleadError('GUEST_UNREACHABLE', `VM ${vm} has no vsock device any more: it has stopped`);
    if (this.#lost === undefined) return;
    const how = this.#ending === undefined ? this.#lost : 'carried nothing any more, and was ended';
    throw new FairleadError('PROCESS_FAILED', `the vsock daemon of VM ${vm} ${how}: stop and start the VM`);
  }
}

function resetOf(vm: string, why: string, reset: ResetName): FairleadError {
  return new FairleadError('STREAM_RESET', `the stream into VM ${vm} was reset: ${why}`, { details: { reset } });
}

/** Ending the writable side finishes it without a shutdown(2); the connection closes when the guest ends too, or on destroy. */
function withoutHalfClose(socket: Socket): Socket {
  socket._final = (done) => done();
  return socket;
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
