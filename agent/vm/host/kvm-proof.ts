/**
 * Whether KVM really runs guests here. That /dev/kvm opens says little: under some hypervisors it opens, makes a VM, and no guest ever
 * gets anywhere. So a guest of a few instructions is run to its end:
 *
 *     x64    a boot sector that firmware loads; it leaves through the `isa-debug-exit` device, which turns the byte b written to it into
 *            QEMU's exit code 2b + 1
 *     arm64  firmware in flash, where the processor begins; it powers off by a PSCI call (Arm DEN 0022, SYSTEM_OFF), and QEMU ends with 0
 */
import { constants } from 'node:fs';
import { access, mkdir, open, rm, truncate, writeFile } from 'node:fs/promises';
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

/** A guest that comes to its end on one architecture. */
interface ProofGuest {
  readonly image: () => Buffer;
  /** The image is padded to this: firmware and machines take no smaller one. */
  readonly imageBytes: number;
  /** Beside what every guest has; the image is the block node `boot`. */
  readonly args: (accelerator: 'kvm' | 'tcg') => readonly (readonly string[])[];
  readonly exitCode: number;
}

const GUESTS: Partial<Record<NodeJS.Architecture, ProofGuest>> = {
  x64: {
    image: bootSector,
    imageBytes: 1024 ** 2,
    args: () => [
      ['-M', 'q35'],
      ['-device', json({ driver: 'virtio-blk-pci', drive: 'boot', bootindex: 0 })],
      ['-device', json({ driver: 'isa-debug-exit', iobase: EXIT_PORT, iosize: 1 })],
    ],
    exitCode: 2 * EXIT_BYTE + 1,
  },
  arm64: {
    image: powerOff,
    imageBytes: 64 * 1024 ** 2,
    args: (accelerator) => [['-M', `virt,gic-version=${accelerator === 'kvm' ? 'host' : '3'},pflash0=boot`]],
    exitCode: 0,
  },
};

export interface Proof {
  readonly proven: boolean;
  /** Why not. */
  readonly reason?: string | undefined;
}

/** Quick and never cached: the answer changes with a group or a module. Undefined when the device can be opened. */
export async function kvmDeviceProblem(arch: NodeJS.Architecture = process.arch): Promise<string | undefined> {
  if (GUESTS[arch] === undefined) return `KVM cannot be proven on architecture ${arch}`;
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
  /** Options so that the proof itself can be tested where there is no KVM. */
  readonly accelerator?: 'kvm' | 'tcg';
  readonly arch?: NodeJS.Architecture;
  readonly timeoutMs?: number;
  /** As whom; by default as the agent. */
  readonly user?: ProcessUser | undefined;
}

export async function runTestGuest(options: ProofOptions): Promise<Proof> {
  const { binary, directory, accelerator = 'kvm', arch = process.arch, timeoutMs = PROOF_TIMEOUT_MS, user } = options;
  const guest = GUESTS[arch];
  if (guest === undefined) return { proven: false, reason: `there is no test guest for architecture ${arch}` };
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const disk = join(directory, 'boot.img');
  try {
    await writeFile(disk, guest.image());
    await truncate(disk, guest.imageBytes);
    // Handed over open: the directory is for the agent alone.
    await using file = await open(disk, 'r');
    const run = await runProbe(binary, proofArgs(guest, accelerator), { timeoutMs, user, fd: file.fd });
    if (run.code === guest.exitCode) return { proven: true };
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

function proofArgs(guest: ProofGuest, accelerator: 'kvm' | 'tcg'): string[] {
  return [
    ['-accel', accelerator],
    ['-cpu', accelerator === 'kvm' ? 'host' : 'max'],
    ['-m', '16M'],
    ['-nodefaults'],
    ['-no-user-config'],
    ['-no-reboot'],
    ['-display', 'none'],
    ['-add-fd', `fd=${PROBE_FD},set=1`],
    ['-blockdev', json({ driver: 'file', 'node-name': 'boot', filename: '/dev/fdset/1', 'read-only': true })],
    ...guest.args(accelerator),
  ].flat();
}

/** `mov al, BYTE; out PORT, al; hlt; jmp $`, and the signature that firmware looks for. */
function bootSector(): Buffer {
  const sector = Buffer.alloc(512);
  sector.set([0xb0, EXIT_BYTE, 0xe6, EXIT_PORT, 0xf4, 0xeb, 0xfe]);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** `movz w0, #0x8400, lsl #16; movk w0, #8; hvc #0; b .`: the call 0x84000008. */
function powerOff(): Buffer {
  const code = Buffer.alloc(16);
  for (const [index, instruction] of [0x52b0_8000, 0x7280_0100, 0xd400_0002, 0x1400_0000].entries()) {
    code.writeUInt32LE(instruction, 4 * index);
  }
  return code;
}
