/**
 * A real QEMU with a monitor on a unix socket and no guest: `-M none` (or what is asked for), stopped, TCG.
 *
 *     await using qemu = await startQemuMonitor();
 *     await using client = await QmpClient.connect({ path: qemu.path });
 *
 * The monitor listens before QEMU begins. Ready is an event: QEMU makes its character devices in the order of the command line, so when
 * the last one has connected to us, the monitor before it is there. Disposing kills the process and removes the socket.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { withListeningSocket } from './listening-socket.ts';
import { testQemu } from './qemu.ts';

export interface QemuOptions {
  readonly binary?: string;
  readonly args?: readonly string[];
  readonly machine?: string;
}

export interface QemuMonitor extends AsyncDisposable {
  readonly path: string;
  /** Of this very process, which lives until it is reaped by us. */
  signal(signal: NodeJS.Signals): void;
  /** Resolves with exit code or signal. */
  readonly exited: Promise<number | string>;
}

export async function startQemuMonitor(options: QemuOptions = {}): Promise<QemuMonitor> {
  const { binary = testQemu().binary, args = [], machine = 'none' } = options;
  const directory = await mkdtemp(join(tmpdir(), 'qemu-qmp-'));
  const [path, readyPath] = [join(directory, 'qmp.sock'), join(directory, 'ready.sock')];
  await using listening = await listen(readyPath);
  const base = ['-M', machine, '-accel', 'tcg', '-S', '-nodefaults', '-no-user-config', '-display', 'none'];
  const monitor = ['-chardev', 'socket,id=qmp,fd=3,server=on,wait=off', '-mon', 'chardev=qmp,mode=control'];
  const ready = ['-chardev', `socket,id=ready,path=${readyPath}`];
  const child = await withListeningSocket(path, (fd) =>
    spawn(binary, [...args, ...base, ...monitor, ...ready], { stdio: ['ignore', 'ignore', 'pipe', fd] }),
  );
  const exited = exitOf(child);
  const complaints = child.stderr === null ? '' : text(child.stderr);
  const failed = exited.then(async (how) => {
    await rm(directory, { recursive: true, force: true });
    throw new Error(`${binary} ended with ${how} before it was ready: ${await complaints}`);
  });
  // An exit after this is the test's affair; the race has taken the rejection, so it goes to nobody.
  await Promise.race([listening.connected, failed]);

  return {
    path,
    exited,
    signal: (signal) => void child.kill(signal),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exited;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function listen(path: string): Promise<{ connected: Promise<unknown> } & AsyncDisposable> {
  const server = net.createServer((socket) => socket.on('error', () => {}).resume());
  server.listen(path);
  await once(server, 'listening');
  return {
    connected: once(server, 'connection'),
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

async function exitOf(child: ChildProcess): Promise<number | string> {
  const [code, signal] = await once(child, 'exit');
  return code ?? signal;
}
