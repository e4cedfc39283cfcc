/**
 * Starting a process of a VM as whom and where it has to run: in a session of its own, because it lives as long as its VM and not as long
 * as the agent; as the user of the host's choice; in the control group of its VM; and first in line when the host is out of memory.
 *
 * Memory counts for the group in which it is first touched, so the program must not run before it has been moved. Where there is a group,
 * a shell stands before it that waits for a word on its standard input and then becomes the program: pid and start time stay the same. An
 * agent that dies in between closes that input, and the shell ends.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { FairleadError } from '../../../shared/errors.ts';
import type { ProcessUser } from './process-user.ts';

export interface ProcessGuard {
  readonly user: ProcessUser | undefined;
  readonly cgroup: { admit(pid: number): void } | undefined;
  /** proc(5), /proc/PID/oom_score_adj; undefined leaves it as the agent's own. */
  readonly oomScoreAdj: number | undefined;
  /** Descriptors that the agent got from whoever started it and that its children would get too (`inheritedDescriptors`). */
  readonly strangers: readonly number[];
}

export const NO_GUARD: ProcessGuard = { user: undefined, cgroup: undefined, oomScoreAdj: undefined, strangers: [] };

export interface GuardedSpawn {
  readonly binary: string;
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** `pipe` becomes the child's `stdin`, for the caller to write to and to end. */
  readonly input: 'none' | 'pipe';
  /** From standard output on. `pipe` becomes one of the child's `stdio`, likewise; undefined is nothing. */
  readonly descriptors: readonly (number | 'pipe' | undefined)[];
  readonly guard: ProcessGuard;
}

/** Nobody but their owner may use what the program makes: sockets, logs, memory. */
const UMASK = 0o077;
const GATE = 'read -r word && [ "$word" = go ] && exec "$@"';

/** Events of the child come later, `error` where it could not be run. @throws FairleadError PROCESS_FAILED where it could not be moved. */
export function spawnGuarded({ binary, argv, env, input, descriptors, guard }: GuardedSpawn): ChildProcess {
  const { user, cgroup, oomScoreAdj } = guard;
  const isGated = cgroup !== undefined;
  const gate = ['/bin/sh', '-c', input === 'none' ? `${GATE} </dev/null` : GATE, 'sh'];
  const [program = binary, ...args] = [...(isGated ? gate : []), binary, ...argv];
  const nothing = openSync('/dev/null', 'r+');
  const stdio = covered([isGated || input === 'pipe' ? 'pipe' : 'ignore', ...descriptors], guard.strangers, nothing);
  const who = user === undefined ? {} : { uid: user.uid, gid: user.gid };
  const umask = process.umask(UMASK);
  let child: ChildProcess;
  try {
    child = spawn(program, args, { detached: true, cwd: '/', env, stdio, ...who });
  } finally {
    process.umask(umask);
    closeSync(nothing);
  }
  if (child.pid === undefined) return child;
  try {
    if (oomScoreAdj !== undefined) setOomScore(child.pid, oomScoreAdj);
    cgroup?.admit(child.pid);
  } catch (error) {
    child.kill('SIGKILL');
    child.on('error', () => {});
    throw error;
  }
  // One that has ended meanwhile is told by its end.
  child.stdin?.on('error', () => {});
  if (isGated) child.stdin?.write('go\n');
  if (input === 'none') child.stdin?.end();
  return child;
}

/** One that has ended by itself meanwhile is told by its end. */
function setOomScore(pid: number, score: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score));
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    if (code === 'ENOENT' || code === 'ESRCH') return;
    const message = `could not set the out-of-memory score of process ${pid} to ${score}: ${code}; set oomScoreAdj to 0 to leave it`;
    throw new FairleadError('PROCESS_FAILED', message, { cause });
  }
}

/**
 * Those of the agent that stay open over an exec, such as the lock of a script that started it: a VM, which outlives both, would hold it.
 * What the agent itself opens is closed on exec, so that one look at its start is enough.
 */
export function inheritedDescriptors(): number[] {
  const numbers = readdirSync('/proc/self/fd').map(Number);
  return numbers.filter((number) => number > 2 && !isClosedOnExec(number));
}

/** O_CLOEXEC in the octal flags of proc(5), /proc/PID/fdinfo. One that is gone by now was that of the look itself. */
function isClosedOnExec(descriptor: number): boolean {
  try {
    const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))?.[1];
    return (Number.parseInt(flags ?? '0', 8) & 0o2000000) !== 0;
  } catch {
    return true;
  }
}

/** With `nothing` in the place of each stranger that is not given a meaning of its own. */
function covered(given: (number | 'pipe' | 'ignore' | undefined)[], strangers: readonly number[], nothing: number): StdioOptions {
  const length = Math.max(given.length, ...strangers.map((number) => number + 1));
  return Array.from({ length }, (_, number) => given[number] ?? (strangers.includes(number) ? nothing : 'ignore'));
}
