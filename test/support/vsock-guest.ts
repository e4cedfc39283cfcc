/**
 * The demo guest on a bare QEMU with one vsock device, for tests of the transports alone (no VmManager). Ready by event: the guest's
 * marker line on its console.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { VsockDevice } from '../../agent/streams/transport.ts';

const CACHE = fileURLToPath(new URL('../../.cache', import.meta.url));
const IMAGE = join(CACHE, 'image/current');
const READY = 'FAIRLEAD GUEST READY';
export const VHOST_DEVICE_VSOCK = join(CACHE, 'vhost-device-vsock/0.3.0-2/vhost-device-vsock');

/** Why the tests of this file cannot run here, or undefined. */
export function missingForVsockGuest(): string | undefined {
  if (!existsSync(VHOST_DEVICE_VSOCK)) return `no ${VHOST_DEVICE_VSOCK}: run npm run setup`;
  if (!existsSync(join(IMAGE, 'vmlinux'))) return `no guest image in ${IMAGE}: run npm run setup`;
  return undefined;
}

/** A directory with a short name, since it holds unix sockets. */
export async function shortDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'fl-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

export interface VsockGuest extends AsyncDisposable {
  readonly process: ChildProcess;
  /** Settles when the guest's services listen. */
  readonly ready: Promise<void>;
}

export function startVsockGuest(device: VsockDevice): VsockGuest {
  if (device.backend.kind !== 'vhost-user') throw new Error('this helper is for vhost-user');
  const options = [
    '-M q35,accel=tcg,memory-backend=mem0 -m 192 -nodefaults -nographic -no-reboot -serial stdio',
    '-object memory-backend-memfd,id=mem0,size=192M,share=on',
    `-chardev socket,id=c0,path=${device.backend.socketPath} -device vhost-user-vsock-pci,chardev=c0`,
    `-kernel ${join(IMAGE, 'vmlinux')} -initrd ${join(IMAGE, 'initrd.gz')}`,
  ];
  const argv = [...options.join(' ').split(' '), '-append', 'console=ttyS0 reboot=t panic=-1 quiet'];
  const qemu = spawn('qemu-system-x86_64', argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const ready = new Promise<void>((resolve, reject) => {
    qemu.once('error', reject);
    qemu.once('exit', (code, signal) => reject(new Error(`QEMU ended (${code ?? signal}): ${output.slice(-1000)}`)));
    for (const stream of [qemu.stdout, qemu.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes(READY)) resolve();
      });
    }
  });
  ready.catch(() => {});
  return {
    process: qemu,
    ready,
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => qemu.once('exit', resolve));
      if (qemu.exitCode !== null || qemu.signalCode !== null) return;
      qemu.kill('SIGKILL');
      await ended;
    },
  };
}
