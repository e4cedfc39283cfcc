/**
 * The processes of a benchmark: each part of a line runs in its own, as in real life, and tells when it is ready.
 *
 * A program is in a session of its own, so that Ctrl-C at the terminal reaches the benchmark alone, which then takes all of them down in
 * order. A program whose benchmark is gone ends by itself.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export type Message = Readonly<Record<string, unknown>>;

export interface Program extends AsyncDisposable {
  /** What the program said when it was ready. */
  readonly ready: Message;
  readonly pid: number;
  /** The next message that the program sent, in order; rejects when the program has ended and said no more. */
  next(): Promise<Message>;
  send(message: object): void;
}

/**
 * Starts `bench/<path>` with `args` as one JSON argument and waits for its first message. `through` is a command that becomes the one
 * which is written after it, such as `nsenter`.
 * @throws Error with the program's name when it ends before it is ready.
 */
export async function startProgram(path: string, args: object = {}, through: readonly string[] = []): Promise<Program> {
  const [execPath, ...execArgv] = [...through, process.execPath];
  const child = fork(fileURLToPath(new URL(path, import.meta.url)), [JSON.stringify(args)], {
    ...(execPath !== undefined && { execPath }),
    execArgv,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    detached: true,
  });
  const next = inbox(child, path);
  const ready = await next();
  return {
    ready,
    // SAFETY: a program that has said something was spawned.
    pid: child.pid as number,
    next,
    send: (message) => void child.send(message),
    [Symbol.asyncDispose]: () => endProcess(child),
  };
}

/** Ends a process by SIGTERM and waits until it is gone. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exited;
}

/** Keeps what comes before it is asked for. */
function inbox(child: ChildProcess, path: string): () => Promise<Message> {
  const messages: Message[] = [];
  let waiting: PromiseWithResolvers<Message> | undefined;
  let ended: Error | undefined;
  const end = (why: string): void => {
    ended ??= new Error(`bench/${path} ended (${why}) while a message of it was awaited`);
    waiting?.reject(ended);
    waiting = undefined;
  };
  child.on('message', (message) => {
    // SAFETY: the programs beside this file send objects only.
    const said = message as Message;
    if (waiting === undefined) messages.push(said);
    else waiting.resolve(said);
    waiting = undefined;
  });
  child.once('error', (error) => end(error.message));
  child.once('exit', (code, signal) => end(signal ?? `code ${code}`));
  return () => {
    const message = messages.shift();
    if (message !== undefined) return Promise.resolve(message);
    if (ended !== undefined) return Promise.reject(ended);
    waiting = Promise.withResolvers<Message>();
    return waiting.promise;
  };
}

/** In a program: its arguments. */
export function programArgs<Args>(): Args {
  // SAFETY: startProgram of the same benchmark wrote this argument a moment ago.
  return JSON.parse(process.argv[2] ?? '{}') as Args;
}

/** In a program: tell the benchmark something. */
export function tell(message: object): void {
  if (process.send === undefined) throw new Error('this program is started by a benchmark');
  process.send(message);
}

/** In a program: end when the benchmark is gone. */
export function endWithBenchmark(): void {
  process.on('disconnect', () => process.exit());
}

/** In a program: tell the benchmark how it failed, as `{fails}`; it goes on. */
export function tellFailures(): void {
  const fail = (error: unknown): void => {
    if (process.connected) tell({ fails: error instanceof Error ? error.message : String(error) });
  };
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
}
