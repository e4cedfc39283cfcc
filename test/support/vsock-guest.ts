/**
 * The demo guest on a bare QEMU with one vsock device, for tests of the transports alone (no VmManager). Ready by event: the guest's
 * marker line on its console.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import { testQemu } from './qemu.ts';

const READY = 'FAIRLEAD GUEST READY';
const TAIL_CHARS = 1000;
/** The daemon's path; empty where `missingForVsockGuest` says that there is none. */
export const VHOST_DEVICE_VSOCK = artefacts().vhostDeviceVsock ?? '';

/** Why the tests of this file cannot run here, or undefined. */
export function missingForVsockGuest(): string | undefined {
  if (VHOST_DEVICE_VSOCK === '') return 'no vhost-device-vsock: run npm run setup';
  return demoImage() === undefined ? 'no guest image: run npm run setup' : undefined;
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
  /** The end of what the guest and QEMU have printed, and whether QEMU runs: for a test that waits in vain. */
  tail(): string;
}

/** vhost-user needs memory that can be shared, and is emulated here; vhost-vsock is there only where KVM is, in the rig. */
export function startVsockGuest(device: VsockDevice): VsockGuest {
  const image = demoImage();
  if (image === undefined) throw new Error(missingForVsockGuest());
  const common = `-m 192 -nodefaults -nographic -no-reboot -serial stdio -kernel ${image.kernel} -initrd ${image.initrd}`;
  const specific =
    device.backend.kind === 'vhost-user'
      ? '-M q35,accel=tcg,memory-backend=mem0 -object memory-backend-memfd,id=mem0,size=192M,share=on ' +
        `-chardev socket,id=c0,path=${device.backend.socketPath} -device vhost-user-vsock-pci,chardev=c0`
      : `-M q35,accel=kvm -cpu host -device vhost-vsock-pci,guest-cid=${device.cid},vhostfd=3`;
  const argv = [...`${common} ${specific}`.split(' '), '-append', image.args];
  const inherited = device.vhostFd === undefined ? [] : [device.vhostFd];
  const qemu = spawn(testQemu().binary, argv, { stdio: ['ignore', 'pipe', 'pipe', ...inherited] });
  device.spawned();
  let output = '';
  const ready = new Promise<void>((resolve, reject) => {
    qemu.once('error', reject);
    qemu.once('exit', (code, signal) => reject(new Error(`QEMU ended (${code ?? signal}): ${output.slice(-TAIL_CHARS)}`)));
    for (const stream of [qemu.stdout, qemu.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        if (output.includes(READY)) resolve();
      });
    }
  });
  ready.catch(() => {});
  return {
    process: qemu,
    ready,
    tail: () => `QEMU ${qemu.exitCode ?? qemu.signalCode ?? 'runs'}, console: ${output.slice(-TAIL_CHARS)}`,
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => qemu.once('exit', resolve));
      if (qemu.exitCode !== null || qemu.signalCode !== null) return;
      qemu.kill('SIGKILL');
      await ended;
    },
  };
}
