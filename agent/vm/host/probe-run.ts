/** One bounded run of a throw-away QEMU: what it printed and how it ended. Killed when its time is over. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { ProcessUser } from '../confinement/process-user.ts';

const MAX_OUTPUT_BYTES = 4 * 1024 ** 2;
/** The number that `fd` has in the process. */
export const PROBE_FD = 3;

export interface ProbeOptions {
  readonly input?: string;
  readonly timeoutMs: number;
  /** By default the agent's own. */
  readonly user?: ProcessUser | undefined;
  readonly fd?: number | undefined;
}

export interface ProbeRun {
  /** Null when a signal ended it, or when it could not be run at all. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** Why it could not be run. */
  readonly error: string | undefined;
}

export async function runProbe(
  binary: string,
  argv: readonly string[],
  { input = '', timeoutMs, user, fd }: ProbeOptions,
): Promise<ProbeRun> {
  const { promise, resolve } = Promise.withResolvers<ProbeRun>();
  // SAFETY: the first three are pipes; the types do not know of lists with more.
  const child = spawn(binary, argv, {
    stdio: ['pipe', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])],
    cwd: '/',
    ...(user === undefined ? {} : { uid: user.uid, gid: user.gid }),
  }) as ChildProcessByStdio<Writable, Readable, Readable>;
  let timedOut = false;
  let stdout = '';
  let stderr = '';
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (stdout.length < MAX_OUTPUT_BYTES) stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < MAX_OUTPUT_BYTES) stderr += text;
  });
  // A QEMU that refuses its arguments never reads: its end says why.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  child.once('error', (error) => resolve({ code: null, signal: null, stdout, stderr, timedOut, error: error.message }));
  child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr, timedOut, error: undefined }));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}
