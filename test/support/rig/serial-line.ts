/**
 * The rig's two serial ports as a shell: commands go in by the first and their standard output comes out there, their standard error
 * comes by the second. Control lines start with the record separator (U+001E): `ready` once, `exit CODE` on both ports after a command.
 *
 *     starting ──ready──▶ idle ◀──exit on both ports── running
 *         │ ◀──startsAnew───┤                            │
 *         └──────────────── fail ────────────────────────┴──▶ failed (every later call rejects with the same error)
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type OnLine = (line: string, from: 'stdout' | 'stderr') => void;

export interface SerialLine extends AsyncDisposable {
  /** Arguments of a QEMU that is to be at the other end. */
  readonly serialArguments: readonly string[];
  ready(timeoutMs: number): Promise<void>;
  run(command: string, timeoutMs: number, onLine?: OnLine): Promise<CommandResult>;
  /** The other end is about to, while no command runs: `ready` waits for it once more. */
  startsAnew(): void;
  /** The other end is gone: everything pending rejects, and everything after. */
  fail(error: Error): void;
}

const MARK = '\u001e';
const PORTS = ['stdout', 'stderr'] as const;
type Port = (typeof PORTS)[number];

/** Listens in the folder for QEMU's two connections. */
export async function openSerialLine(directory: string): Promise<SerialLine> {
  const failed = new AbortController();
  const servers: Server[] = [];
  const sockets = new Map<Port, Socket>();
  let handleLine: (line: string, port: Port) => void = () => {};
  let readySignal = awaitedReady();

  const receive = (line: string, port: Port): void => {
    if (line === `${MARK}ready`) readySignal.resolve();
    else handleLine(line, port);
  };
  for (const port of PORTS) {
    const server = createServer((socket) => {
      sockets.set(port, socket);
      socket.on('error', (error) => fail(error));
      createInterface({ input: socket, crlfDelay: Infinity }).on('line', (line) => {
        // A command need not end its last line: the mark may stand in the middle of one.
        const at = line.indexOf(MARK);
        if (at > 0) receive(line.slice(0, at), port);
        receive(at > 0 ? line.slice(at) : line, port);
      });
    });
    server.listen(join(directory, port));
    await once(server, 'listening');
    servers.push(server);
  }

  const fail = (error: Error): void => {
    failed.abort(error);
    readySignal.reject(error);
  };

  /** Rejects when the deadline passes, and from then on for good: the ports are in an unknown state. */
  const within = async <T>(action: Promise<T>, timeoutMs: number, what: string): Promise<T> => {
    const timer = setTimeout(() => fail(new Error(`${what} took longer than ${timeoutMs} ms`)), timeoutMs);
    try {
      return await action;
    } finally {
      clearTimeout(timer);
    }
  };

  const execute = (command: string, onLine: OnLine | undefined): Promise<CommandResult> => {
    const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
    const lines: Record<Port, string[]> = { stdout: [], stderr: [] };
    const open = new Set<Port>(PORTS);
    const said = (): string => [...lines.stdout.slice(-20), ...lines.stderr.slice(-20)].join('\n');
    const onFail = (): void => reject(new Error(`${failed.signal.reason.message}\nthe command had printed:\n${said()}`));
    failed.signal.addEventListener('abort', onFail, { once: true });
    handleLine = (line, port) => {
      const code = /^exit (\d+)$/.exec(line.startsWith(MARK) ? line.slice(1) : '')?.[1];
      if (code === undefined) {
        lines[port].push(line);
        onLine?.(line, port);
        return;
      }
      open.delete(port);
      if (open.size > 0) return;
      failed.signal.removeEventListener('abort', onFail);
      resolve({ exitCode: Number(code), stdout: lines.stdout.join('\n'), stderr: lines.stderr.join('\n') });
    };
    sockets.get('stdout')?.write(`${command}\n`);
    return promise;
  };

  return {
    serialArguments: PORTS.flatMap((port) => ['-serial', `unix:${join(directory, port)}`]),
    ready: (timeoutMs) => within(readySignal.promise, timeoutMs, 'the start of the rig'),
    run: async (command, timeoutMs, onLine) => {
      failed.signal.throwIfAborted();
      if (command.includes('\n')) throw new Error('a command of the rig is one line: put more into a file');
      return within(execute(command, onLine), timeoutMs, `the command "${command}"`);
    },
    startsAnew: () => {
      failed.signal.throwIfAborted();
      readySignal = awaitedReady();
    },
    fail,
    [Symbol.asyncDispose]: async () => {
      fail(new Error('the rig was disposed of'));
      for (const socket of sockets.values()) socket.destroy();
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

/** A waiter may be attached long after the failure, or never. */
function awaitedReady(): PromiseWithResolvers<void> {
  const ready = Promise.withResolvers<void>();
  ready.promise.catch(() => {});
  return ready;
}
