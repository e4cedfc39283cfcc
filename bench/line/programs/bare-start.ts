/**
 * Baseline of `vm.start`: the very same command line and vsock daemon, with no more around them than they need. Each message of the
 * benchmark is one start; the answer is its duration, told when QEMU has been killed again.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, watch } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { socketFd } from '../../../native/socket-fd.ts';
import { endWithBenchmark, tell } from '../../programs.ts';

export interface BareStart {
  readonly binary: string;
  readonly argv: readonly string[];
  readonly daemon: string;
  /** Where the sockets of the command line are. */
  readonly runDir: string;
  /** The daemon's socket for QEMU. */
  readonly vhostSocket: string;
  readonly logFile: string;
}

const running = new Set<ChildProcess>();

endWithBenchmark();
process.on('SIGTERM', () => process.exit());
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
process.on('message', (request: BareStart) => void start(request).then((ms) => tell({ ms })));
tell({ ready: true });

async function start({ binary, argv, daemon, runDir, vhostSocket, logFile }: BareStart): Promise<number> {
  await mkdir(runDir, { recursive: true });
  const log = openSync(logFile, 'a');
  const before = performance.now();
  const bound = appears(vhostSocket);
  const vsock = run(daemon, ['--guest-cid', '3', '--uds-path', join(runDir, 'vs'), '--socket', vhostSocket], [log]);
  const qmpPath = join(runDir, 'qmp.sock');
  const listener = await listen(qmpPath);
  await bound;
  const qemu = run(binary, argv, [log, socketFd(listener)]);
  await once(qemu, 'spawn');
  // Closed before anybody connects: it would take the connection itself.
  listener.close();
  await letRun(qmpPath);
  const ms = performance.now() - before;
  await Promise.all([qemu, vsock].map(kill));
  closeSync(log);
  await rm(runDir, { recursive: true });
  return ms;
}

function run(program: string, args: readonly string[], [log, ...fds]: readonly [number, ...number[]]): ChildProcess {
  const child = spawn(program, args, { cwd: '/', stdio: ['ignore', log, log, ...fds] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (!running.has(child)) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** Greeting, capabilities, `cont`; done when QEMU says in either way that the guest runs. */
async function letRun(path: string): Promise<void> {
  const socket = connect(path);
  let answers = 0;
  for await (const line of createInterface(socket)) {
    if (line.includes('"QMP"')) socket.write('{"execute":"qmp_capabilities"}\n');
    else if (line.includes('"RESUME"')) break;
    else if (line.startsWith('{"return"') && answers++ === 0) socket.write('{"execute":"cont"}\n');
    else if (line.startsWith('{"return"')) break;
    else if (line.startsWith('{"error"')) throw new Error(`QEMU answered ${line}`);
  }
  socket.destroy();
}

/** Node unlinks the path that a server was bound to when the server is closed, hence the rename. */
async function listen(path: string): Promise<Server> {
  const server = createServer();
  server.listen(`${path}.new`);
  await once(server, 'listening');
  await rename(`${path}.new`, path);
  return server;
}

function appears(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const watcher = watch(dirname(path), (_, name) => {
    if (name !== basename(path)) return;
    watcher.close();
    resolve();
  });
  return promise;
}
