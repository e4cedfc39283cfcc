/**
 * The release that a launcher left when it was killed. It ends by itself, since its launcher is gone; one that hangs is ended before another
 * is begun, so that two never have one state directory.
 *
 *     RELEASES/child.json     the pid of the release that runs, its start time, and the boot: a pid alone may be another's by now
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

interface Child {
  readonly pid: number;
  readonly startTime: string;
  readonly bootId: string;
}

const LOOK_MS = 50;

/** False where the disk has refused it: the agent runs all the same. */
export function noteChild(directory: string, pid: number): boolean {
  const startTime = startTimeOf(pid);
  if (startTime === undefined) return true;
  const child: Child = { pid, startTime, bootId: bootId() };
  try {
    writeFileSync(join(directory, 'child.json'), JSON.stringify(child), { mode: 0o600 });
    return true;
  } catch {
    return false;
  }
}

/** Settles when nobody of an earlier launcher runs any more; one that takes longer than `leaveMs` is killed. */
export async function endOrphan(directory: string, leaveMs: number, onKill: (pid: number) => void): Promise<void> {
  const child = readChild(directory);
  if (child === undefined) return;
  for (let leftMs = leaveMs; isAlive(child); leftMs -= LOOK_MS) {
    if (leftMs <= 0) {
      onKill(child.pid);
      kill(child.pid);
      leftMs = leaveMs;
    }
    await sleep(LOOK_MS);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended in this moment.
  }
}

function readChild(directory: string): Child | undefined {
  try {
    // SAFETY: what is no child has no pid that lives with that start time.
    const child = JSON.parse(readFileSync(join(directory, 'child.json'), 'utf8')) as Child;
    return child.bootId === bootId() ? child : undefined;
  } catch {
    return undefined;
  }
}

function isAlive({ pid, startTime }: Child): boolean {
  return startTimeOf(pid) === startTime;
}

/** Field 22 of /proc/PID/stat, counted behind the brackets that may hold anything; undefined for one that has ended. */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
