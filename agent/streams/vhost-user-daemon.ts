/**
 * One `vhost-device-vsock` process for one start of a VM: spawned in a session of its own, because it has to live as long as QEMU
 * does and not as long as the agent; known by pid and start time; ended by `stop`.
 *
 * It has no way to say that it listens. It binds the application's socket first and QEMU's last, so that the file of QEMU's socket
 * (inotify) means that all is bound; /proc/net/unix then tells the one thing that no event does, that `listen` followed `bind`.
 * A connection to find that out would be taken for QEMU's.
 */
import type { ChildProcess } from 'node:child_process';
import { watch } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { FairleadError } from '../../shared/errors.ts';
import { identityOf, isAlive, type ProcessIdentity, processExit, signalProcess } from '../process-identity.ts';
import { NO_GUARD, type ProcessGuard, spawnGuarded } from '../vm/confinement/guarded-spawn.ts';
import { tailOf } from '../vm/logs/log-file.ts';
import { openPlain } from '../vm/logs/plain-file.ts';

const START_TIMEOUT_MS = 5_000;
/** It has nothing to save: it ends at once unless the machine is very busy. */
const STOP_TIMEOUT_MS = 1_000;
const LOG_TAIL_BYTES = 2048;
/** SO_ACCEPTCON in the flags column of /proc/net/unix (net/unix/af_unix.c). */
const LISTENING_FLAGS = '00010000';

export interface DaemonPaths {
  /** QEMU connects here. */
  readonly vhost: string;
  /** The host's programs connect here. */
  readonly uds: string;
  readonly log: string;
}

export interface DaemonOptions {
  readonly vm: string;
  readonly binary: string;
  readonly cid: number;
  readonly paths: DaemonPaths;
  readonly guard?: ProcessGuard | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Daemon {
  readonly identity: ProcessIdentity;
  /** Settles once it is gone, with what is known of how. Never rejects. */
  readonly exited: Promise<string>;
  stop(): Promise<void>;
}

/** Starts one and waits until it listens. PROCESS_FAILED, with the end of its log, when it does not. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { paths, signal } = options;
  signal?.throwIfAborted();
  await Promise.all([rm(paths.vhost, { force: true }), rm(paths.uds, { force: true })]);
  const limit = AbortSignal.timeout(START_TIMEOUT_MS);
  const attempt = new AbortController();
  const given = AbortSignal.any([attempt.signal, limit, ...(signal === undefined ? [] : [signal])]);
  const bound = whenBound(paths.vhost, given);
  bound.catch(() => {});
  try {
    const { child, exited } = await spawnDaemon(options);
    const identity = identityOf(child.pid ?? 0);
    try {
      const ended = exited.then(async (how) => {
        throw await startFailed(options, how);
      });
      await Promise.race([ended, bound]);
      if (identity === undefined) throw await startFailed(options, await exited);
      return { identity, exited, stop: () => stopDaemon(identity, exited) };
    } catch (error) {
      child.kill('SIGKILL');
      signal?.throwIfAborted();
      if (limit.aborted) throw await startFailed(options, `did not listen on ${paths.vhost} within ${START_TIMEOUT_MS} ms`);
      throw error;
    }
  } finally {
    attempt.abort();
  }
}

/** Takes over one that an earlier agent started. */
export function adoptDaemon(identity: ProcessIdentity): Daemon {
  const exited = processExit(identity).then(
    () => 'ended',
    (error: unknown) => `could not be watched: ${String(error)}`,
  );
  return { identity, exited, stop: () => stopDaemon(identity, exited) };
}

async function spawnDaemon(options: DaemonOptions): Promise<{ child: ChildProcess; exited: Promise<string> }> {
  const { vm, binary, cid, paths, guard = NO_GUARD } = options;
  await using log = await openPlain(paths.log, 'append');
  const child = spawnGuarded({
    binary,
    argv: ['--guest-cid', String(cid), '--uds-path', paths.uds, '--socket', paths.vhost],
    env: { RUST_LOG: 'error' },
    input: 'none',
    descriptors: [log.fd, log.fd],
    guard,
  });
  // From the very turn of the spawn: one that ends at once has ended before the next promise here settles.
  const exited = childExit(child);
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => {
      reject(new FairleadError('PROCESS_FAILED', `could not start ${binary} for VM ${vm}: ${cause.message}`, { cause }));
    });
  });
  // The agent may end while it runs.
  child.unref();
  return { child, exited };
}

function childExit(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`));
  });
}

async function stopDaemon(identity: ProcessIdentity, exited: Promise<string>): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!signalProcess(identity, signal)) break;
    if (await settlesWithin(exited, STOP_TIMEOUT_MS)) return;
  }
  if (isAlive(identity)) {
    throw new FairleadError('PROCESS_FAILED', `vhost-device-vsock with pid ${identity.pid} did not end after SIGKILL`);
  }
}

async function settlesWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, timeoutMs, false);
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function startFailed({ vm, binary, paths }: DaemonOptions, why: string): Promise<FairleadError> {
  const stderrTail = tailOf(paths.log, { maxBytes: LOG_TAIL_BYTES }).trim();
  const said = stderrTail === '' ? '' : `; it said: ${stderrTail}`;
  return new FairleadError('PROCESS_FAILED', `could not start the vsock device of VM ${vm}: ${binary} ${why}${said}`, {
    details: { stderrTail },
  });
}

/** Settles when something listens on the unix socket `path`. The watch stands before this function returns its promise. */
async function whenBound(path: string, signal: AbortSignal): Promise<void> {
  const { promise: appeared, resolve, reject } = Promise.withResolvers<void>();
  const watcher = watch(dirname(path), (_, name) => {
    if (name === basename(path)) resolve();
  });
  watcher.on('error', reject);
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await appeared;
    // `listen` is the next system call after `bind`: this is a matter of microseconds, and of few turns of the event loop.
    while (!(await isListening(path))) {
      signal.throwIfAborted();
      await turn();
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    watcher.close();
  }
}

async function isListening(path: string): Promise<boolean> {
  const table = await readFile('/proc/net/unix', 'utf8');
  const line = table.split('\n').find((candidate) => candidate.endsWith(` ${path}`));
  return line?.split(' ')[3] === LISTENING_FLAGS;
}
