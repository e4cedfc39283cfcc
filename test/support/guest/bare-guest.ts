/**
 * A demo guest run by QEMU directly, with none of the product in between: for the tests of the image itself.
 *
 * QEMU's own emulator, the vsock daemon beside it, a human monitor for the two buttons. Disposing kills both and removes their files.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, watch } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { artefacts } from '../../../cli/image/cache.ts';
import { testQemu } from '../qemu.ts';

export interface BareGuestOptions {
  /** With its properties, such as `microvm,pcie=on`. */
  readonly machine: string;
  readonly kernel?: 'vmlinuz' | 'vmlinux';
  /** Start without the vsock device; `plugVsock` adds it. For q35. */
  readonly vsockLater?: boolean;
}

export interface BareGuest extends AsyncDisposable {
  /** The next line that the guest sends when its services listen. */
  readyLine(timeoutMs: number): Promise<string>;
  /** A stream to a port of the guest. Half-open sockets are allowed, but this daemon loses what follows a half-close. */
  dial(port: number): Promise<Socket>;
  plugVsock(): void;
  /** A command for QEMU's human monitor. */
  monitor(command: string): void;
  /** QEMU's exit code, when it ends. */
  readonly exited: Promise<number | null>;
  /** Settles when the console shows the text. */
  consoleShows(text: string, timeoutMs: number): Promise<void>;
}

const READY_PORT = 1023;
const DAEMON_TIMEOUT_MS = 10_000;
const DIAL_TIMEOUT_MS = 20_000;
const GUEST_CID = 42;

/** Why no guest can be booted on this machine, or undefined. */
export function whyNoGuest(): string | undefined {
  const { vmlinux, initrd, vhostDeviceVsock } = artefacts();
  const { missing } = testQemu();
  if (missing !== undefined) return missing;
  const whole = vmlinux !== undefined && initrd !== undefined && vhostDeviceVsock !== undefined;
  return whole ? undefined : 'the guest image is not built: run `node scripts/setup.mjs demo`';
}

export async function bootBareGuest({ machine, kernel = 'vmlinux', vsockLater = false }: BareGuestOptions): Promise<BareGuest> {
  const { initrd = '', vhostDeviceVsock = '', ...images } = artefacts();
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-guest-'));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const path = (name: string): string => join(directory, name);

  const readyLines = await listenForReadyLines(path(`vsock_${READY_PORT}`));
  undo.use(readyLines);
  const monitorServer = createServer().listen(path('monitor'));
  undo.defer(() => void monitorServer.close());
  await once(monitorServer, 'listening');

  const vm = `guest-cid=${GUEST_CID},uds-path=${path('vsock')},socket=${path('daemon')}`;
  const daemon = spawn(vhostDeviceVsock, ['--vm', vm], { stdio: 'ignore' });
  undo.defer(() => end(daemon));
  await untilChanged(directory, DAEMON_TIMEOUT_MS, () => existsSync(path('daemon')));
  const qemu = spawn(
    testQemu().binary,
    `-M ${machine},memory-backend=mem0 -accel tcg -m 256 -nodefaults -no-user-config -display none`.split(' ').concat(
      ['-object', 'memory-backend-memfd,id=mem0,size=256M,share=on'],
      ['-kernel', images[kernel === 'vmlinux' ? 'vmlinux' : 'kernel'] ?? '', '-initrd', initrd],
      // See the agent's argv/build-args.ts: not every SeaBIOS starts an uncompressed kernel on a microvm.
      machine.startsWith('microvm') ? ['-bios', 'qboot.rom'] : [],
      ['-append', kernelArguments(machine), '-serial', `file:${path('console')}`],
      ['-chardev', `socket,id=vsock,path=${path('daemon')}`],
      ['-device', vsockLater ? 'pcie-root-port,id=port1' : 'vhost-user-vsock-pci,chardev=vsock'],
      ['-monitor', `unix:${path('monitor')}`],
    ),
    { stdio: 'ignore' },
  );
  undo.defer(() => end(qemu));
  const [monitor] = await once(monitorServer, 'connection');
  monitor.resume();

  const exited = once(qemu, 'exit').then(([code]) => code);
  const owned = undo.move();
  return {
    readyLine: (timeoutMs) => readyLines.next(timeoutMs),
    dial: (port) => dial(path('vsock'), port),
    plugVsock: () => {
      monitor.write('device_add vhost-user-vsock-pci,chardev=vsock,bus=port1\n');
    },
    monitor: (command) => void monitor.write(`${command}\n`),
    exited,
    consoleShows: (text, timeoutMs) =>
      untilChanged(directory, timeoutMs, async () => (await readFile(path('console'), 'utf8').catch(() => '')).includes(text)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** See guest/README.md on microvm's clock. */
function kernelArguments(machine: string): string {
  const base = 'console=ttyS0 reboot=t panic=-1 quiet';
  const megahertz = /^cpu MHz\s*: ([\d.]+)/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
  if (!machine.startsWith('microvm') || megahertz === undefined) return base;
  return `${base} tsc_early_khz=${Math.round(Number(megahertz) * 1000)} tsc=reliable`;
}

/** The daemon's way to a guest's port: a line that names it, a line that answers, then bytes. No service of the guest speaks first. */
async function dial(path: string, port: number): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.write(`CONNECT ${port}\n`);
  const [answer] = await once(socket, 'data', { signal: AbortSignal.timeout(DIAL_TIMEOUT_MS) });
  if (!String(answer).startsWith('OK ')) throw new Error(`port ${port} of the guest answered ${String(answer)}`);
  socket.pause();
  return socket;
}

async function listenForReadyLines(path: string): Promise<AsyncDisposable & { next(timeoutMs: number): Promise<string> }> {
  const lines: string[] = [];
  const server = createServer((socket) => {
    void text(socket).then((line) => {
      lines.push(line);
      server.emit('ready-line');
    });
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    next: async (timeoutMs) => {
      const signal = AbortSignal.timeout(timeoutMs);
      while (lines.length === 0) await once(server, 'ready-line', { signal });
      return lines.shift() ?? '';
    },
    [Symbol.asyncDispose]: async () => void server.close(),
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** Looks again at each change of the folder or of a file in it, until the condition holds. */
async function untilChanged(directory: string, timeoutMs: number, holds: () => boolean | Promise<boolean>): Promise<void> {
  const watcher = watch(directory);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    for (;;) {
      const changed = once(watcher, 'change', { signal });
      changed.catch(() => {}); // not awaited when the condition holds already
      if (await holds()) return;
      await changed;
    }
  } finally {
    watcher.close();
  }
}
