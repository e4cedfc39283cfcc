/** The processes of a benchmark: each part of a line runs in its own, as in real life, and tells when it is ready. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Program extends AsyncDisposable {
  readonly child: ChildProcess;
  /** What the program said when it was ready. */
  readonly ready: Readonly<Record<string, unknown>>;
  /** Resolves with the next message that the program sends. */
  next(): Promise<unknown>;
  send(message: object): void;
}

/**
 * Starts `bench/<path>` with `args` as one JSON argument and waits for its first message.
 * @throws Error with the program's name when it ends before it is ready.
 */
export async function startProgram(path: string, args: object = {}): Promise<Program> {
  const child = fork(fileURLToPath(new URL(path, import.meta.url)), [JSON.stringify(args)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const next = (): Promise<unknown> => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const ended = (code: number | null): void => reject(new Error(`${path} ended with ${code} while a message was awaited`));
    child.once('exit', ended);
    child.once('message', (message) => {
      child.removeListener('exit', ended);
      resolve(message);
    });
    return promise;
  };
  // SAFETY: the programs beside this file send objects only.
  const ready = (await next()) as Record<string, unknown>;
  return { child, ready, next, send: (message) => void child.send(message), [Symbol.asyncDispose]: () => end(child) };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.disconnect();
  child.kill('SIGTERM');
  await exited;
}

/** In a program: its arguments. */
export function programArgs<Args>(): Args {
  // SAFETY: startProgram of the same benchmark wrote this argument a moment ago.
  return JSON.parse(process.argv[2] ?? '{}') as Args;
}

/** In a program: tell the benchmark something. Ends the program when the benchmark is gone. */
export function tell(message: object): void {
  if (process.send === undefined) throw new Error('this program is started by a benchmark');
  process.send(message);
}
