/**
 * Whether KVM really runs guests here. That /dev/kvm opens says little: under some hypervisors it opens, makes a VM, and no guest ever
 * gets anywhere. So a guest is run to its end: a boot sector that firmware loads and that leaves through the `isa-debug-exit` device,
 * which turns the byte b written to it into QEMU's exit code 2b + 1.
 */
import { constants } from 'node:fs';
import { access, mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { json } from '../argv/host.ts';
import type { ProcessUser } from '../confinement/process-user.ts';
import { lastLine } from '../logs/log-file.ts';
import { PROBE_FD, runProbe } from './probe-run.ts';

export const KVM_DEVICE = '/dev/kvm';

/** A guest that has not left after so long never will: it takes a fifth of a second, and some seconds where the host is itself a busy VM. */
const PROOF_TIMEOUT_MS = 15_000;
const EXIT_PORT = 0xf4;
const EXIT_BYTE = 0x31;
const EXIT_CODE = 2 * EXIT_BYTE + 1;

export interface Proof {
  readonly proven: boolean;
  /** Why not. */
  readonly reason?: string | undefined;
}

/** Quick and never cached: the answer changes with a group or a module. Undefined when the device can be opened. */
export async function kvmDeviceProblem(arch: NodeJS.Architecture = process.arch): Promise<string | undefined> {
  // There is no such exit device on other architectures, so nothing can be proven there yet.
  if (arch !== 'x64') return `KVM cannot be proven on architecture ${arch}`;
  try {
    await access(KVM_DEVICE, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const hint = code === 'EACCES' ? ': give the agent the group kvm' : ': load the module kvm_intel or kvm_amd';
    return `cannot open ${KVM_DEVICE}: ${code}${hint}`;
  }
}

export interface ProofOptions {
  readonly binary: string;
  /** The agent's own, for the test guest's disk: what a killed agent leaves there, the next proof overwrites. */
  readonly directory: string;
  /** An option so that the proof itself can be tested where there is no KVM. */
  readonly accelerator?: 'kvm' | 'tcg';
  readonly timeoutMs?: number;
  /** As whom; by default as the agent. */
  readonly user?: ProcessUser | undefined;
}

export async function runBootSector(options: ProofOptions): Promise<Proof> {
  const { binary, directory, accelerator = 'kvm', timeoutMs = PROOF_TIMEOUT_MS, user } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const disk = join(directory, 'boot.img');
  try {
    await writeFile(disk, bootDisk());
    // Handed over open: the directory is for the agent alone.
    await using file = await open(disk, 'r');
    const run = await runProbe(binary, proofArgs(accelerator), { timeoutMs, user, fd: file.fd });
    if (run.code === EXIT_CODE) return { proven: true };
    return { proven: false, reason: `a test guest under ${accelerator} did not run to its end: ${whatHappened(run, timeoutMs)}` };
  } finally {
    await rm(disk, { force: true });
  }
}

function whatHappened(run: Awaited<ReturnType<typeof runProbe>>, timeoutMs: number): string {
  if (run.error !== undefined) return run.error;
  const words = lastLine(run.stderr);
  const end = run.timedOut ? `it was still running after ${timeoutMs} ms` : `QEMU ended with ${run.signal ?? `code ${run.code}`}`;
  return words === '' ? end : `${end}: ${words}`;
}

function proofArgs(accelerator: 'kvm' | 'tcg'): string[] {
  return [
    ['-M', 'q35'],
    ['-accel', accelerator],
    ['-cpu', accelerator === 'kvm' ? 'host' : 'max'],
    ['-m', '16M'],
    ['-nodefaults'],
    ['-no-user-config'],
    ['-no-reboot'],
    ['-display', 'none'],
    ['-add-fd', `fd=${PROBE_FD},set=1`],
    ['-blockdev', json({ driver: 'file', 'node-name': 'boot', filename: '/dev/fdset/1', 'read-only': true })],
    ['-device', json({ driver: 'virtio-blk-pci', drive: 'boot', bootindex: 0 })],
    ['-device', json({ driver: 'isa-debug-exit', iobase: EXIT_PORT, iosize: 1 })],
  ].flat();
}

/**
 * `mov al, BYTE; out PORT, al; hlt; jmp $`, and the signature that firmware looks for. The disk is larger than that sector, since
 * SeaBIOS does not boot from one that is too small for a geometry.
 */
function bootDisk(): Buffer {
  const disk = Buffer.alloc(1024 ** 2);
  disk.set([0xb0, EXIT_BYTE, 0xe6, EXIT_PORT, 0xf4, 0xeb, 0xfe]);
  disk.set([0x55, 0xaa], 510);
  return disk;
}
