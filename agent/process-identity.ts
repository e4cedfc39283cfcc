/**
 * A process that outlives the agent is known by its pid and its start time: the pid alone may belong to another by now. No signal goes
 * out and no wait begins before the start time has been compared.
 */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadNative, type NativeApi } from '../native/index.ts';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks from the boot of the machine to the start of the process. */
  readonly startTime: string;
}

/** Where the kernel has no pidfd (before 5.3) or the add-on is missing, the end of a process that is not our child is looked for so often. */
const FALLBACK_INTERVAL_MS = 500;

/** The identity of a process that runs now; undefined when there is none, or only its zombie. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const startTime = look(pid)?.startTime;
  return startTime === undefined ? undefined : { pid, startTime };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return look(identity.pid)?.startTime === identity.startTime;
}

/** Gone, or on its way out: true before anybody can see that it has closed a descriptor by ending. */
export function isEnding(identity: ProcessIdentity): boolean {
  const seen = look(identity.pid);
  return seen?.startTime !== identity.startTime || seen.isExiting;
}

/** PF_EXITING, which a process has before it gives anything back (linux/sched.h, kernel/exit.c). */
const EXITING = 0x4;

function look(pid: number): { readonly startTime: string; readonly isExiting: boolean } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The command in brackets may hold anything, brackets and spaces included; the fields after the last one are plain (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const startTime = fields[19];
  if (startTime === undefined || state === 'Z' || state === 'X') return undefined;
  return { startTime, isExiting: (Number(fields[6]) & EXITING) !== 0 };
}

/** Sends a signal to that process and no other; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: 'SIGTERM' | 'SIGKILL'): boolean {
  try {
    const native = loadNative();
    return native.available ? signalHeld(native.api, identity, signal) : isAlive(identity) && process.kill(identity.pid, signal);
  } catch {
    return false;
  }
}

/** The pidfd holds whoever has the pid, so that what is compared is what is signalled. */
function signalHeld(api: NativeApi, identity: ProcessIdentity, signal: 'SIGTERM' | 'SIGKILL'): boolean {
  let pidfd: number;
  try {
    pidfd = api.pidfdOpen(identity.pid);
  } catch (error) {
    // A kernel before 5.3 has none.
    if (error instanceof Error && 'code' in error && error.code === 'ENOSYS') {
      return isAlive(identity) && process.kill(identity.pid, signal);
    }
    throw error;
  }
  try {
    if (!isAlive(identity)) return false;
    api.pidfdSignal(pidfd, constants.signals[signal]);
    return true;
  } finally {
    api.pidfdClose(pidfd);
  }
}

/** Settles when that process is gone. Rejects with the signal's reason when it is aborted first. */
export async function processExit(identity: ProcessIdentity, signal?: AbortSignal): Promise<void> {
  const native = loadNative();
  if (!native.available) return lookUntilGone(identity, signal);
  const { api } = native;
  let pidfd: number;
  try {
    pidfd = api.pidfdOpen(identity.pid);
  } catch {
    return lookUntilGone(identity, signal);
  }
  const close = () => api.pidfdClose(pidfd);
  signal?.addEventListener('abort', close, { once: true });
  try {
    // From here on the pidfd holds whoever had the pid; if that is another, ours is gone.
    if (!isAlive(identity)) return;
    signal?.throwIfAborted();
    await api.pidfdWait(pidfd);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', close);
    if (signal?.aborted !== true) close();
  }
}

async function lookUntilGone(identity: ProcessIdentity, signal: AbortSignal | undefined): Promise<void> {
  while (isAlive(identity))
    await sleep(FALLBACK_INTERVAL_MS, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) });
}
