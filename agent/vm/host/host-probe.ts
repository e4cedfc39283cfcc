/**
 * What this host can run, found out once and remembered: the facts of the QEMU binary for as long as the file is the same, the proof of
 * KVM for as long as binary, device and boot are. Answers that are on disk cost one small read; no start of a VM waits for a probe but
 * the first one on a new host.
 */
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Logger } from '../api.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import type { ProcessUser } from '../confinement/process-user.ts';
import { KVM_DEVICE, kvmDeviceProblem, type Proof, runTestGuest } from './kvm-proof.ts';
import { askQemu, findQemu, QemuFacts } from './qemu-facts.ts';

export interface HostProbeOptions {
  readonly stateDir: string;
  readonly bootId: string;
  /** Where the host's QEMU is not in PATH, or another one shall be used. */
  readonly qemuBinary?: string | undefined;
  /** Those that the host's owner allows; by default all. */
  readonly accelerators?: readonly ('kvm' | 'tcg')[] | undefined;
  /** As whom VMs run, and so as whom KVM has to be proven. */
  readonly user?: ProcessUser | undefined;
  readonly logger: Logger;
}

export interface QemuOnHost extends QemuFacts {
  readonly binary: string;
}

const CachedProof = v.strictObject({ proven: v.boolean(), reason: v.optional(v.string()) });

export class HostProbe {
  readonly #options: HostProbeOptions;
  #qemu: Promise<QemuOnHost> | undefined;
  #kvm: Promise<Proof> | undefined;

  constructor(options: HostProbeOptions) {
    this.#options = options;
  }

  /** @throws FairleadError UNSUPPORTED or PROCESS_FAILED where there is no QEMU that answers; asked again at the next call. */
  qemu(): Promise<QemuOnHost> {
    this.#qemu ??= this.#askQemu().catch((error: unknown) => {
      this.#qemu = undefined;
      throw error;
    });
    return this.#qemu;
  }

  /** Never rejects. */
  kvm(): Promise<Proof> {
    this.#kvm ??= this.#proveKvm().catch((error: unknown) => {
      this.#kvm = undefined;
      return { proven: false, reason: toFairleadError(error).message };
    });
    return this.#kvm;
  }

  /** @throws FairleadError UNSUPPORTED for `kvm` where it is not proven, PERMISSION_DENIED for one that the host's owner does not allow. */
  async accelerator(wanted: VmSpec['accelerator']): Promise<'kvm' | 'tcg'> {
    const { accelerators: allowed = ['kvm', 'tcg'] } = this.#options;
    const among = wanted === 'auto' ? allowed : allowed.filter((name) => name === wanted);
    if (among.length === 0) {
      const setting = 'accelerators';
      const message = `accelerator ${wanted} may not be used on this host: its owner can allow it by ${setting}`;
      throw new FairleadError('PERMISSION_DENIED', message, { details: { setting } });
    }
    if (!among.includes('kvm')) return 'tcg';
    const proof = await this.kvm();
    if (proof.proven) return 'kvm';
    if (among.includes('tcg')) return 'tcg';
    throw new FairleadError('UNSUPPORTED', `accelerator kvm cannot be used on this host: ${proof.reason}`);
  }

  /** The full name of a machine type, by its alias or by that. @throws FairleadError UNSUPPORTED where this QEMU has none of that name. */
  async machine(wanted: string): Promise<string> {
    const { machines, binary } = await this.qemu();
    const found = machines.find(({ alias }) => alias === wanted) ?? machines.find(({ name }) => name === wanted);
    if (found !== undefined) return found.name;
    throw new FairleadError('UNSUPPORTED', `machine ${wanted} does not exist in ${binary}`);
  }

  async #askQemu(): Promise<QemuOnHost> {
    const binary = findQemu({ configured: this.#options.qemuBinary });
    const { user } = this.#options;
    const facts = await this.#cached('qemu.json', `${await fileKey(binary)}${who(user)}`, QemuFacts, () => askQemu(binary, user));
    return { binary, ...facts };
  }

  get #directory(): string {
    return join(this.#options.stateDir, 'probe');
  }

  async #proveKvm(): Promise<Proof> {
    const problem = await kvmDeviceProblem();
    if (problem !== undefined) return { proven: false, reason: problem };
    const { binary } = await this.qemu();
    const device = await stat(KVM_DEVICE);
    const { bootId, user } = this.#options;
    const key = `${await fileKey(binary)} ${KVM_DEVICE} ${device.rdev}:${device.ino}:${device.mode} ${bootId}${who(user)}`;
    return this.#cached('kvm.json', key, CachedProof, () => runTestGuest({ binary, directory: this.#directory, user }));
  }

  /** The stored answer to the same question, else a new one, stored. */
  async #cached<T extends object>(
    file: string,
    key: string,
    schema: v.GenericSchema<unknown, T>,
    ask: () => Promise<T>,
  ): Promise<T> {
    const path = join(this.#directory, file);
    const stored = v.safeParse(v.strictObject({ key: v.literal(key), answer: schema }), await readJson(path));
    if (stored.success) return stored.output.answer;
    const startedAt = performance.now();
    const answer = await ask();
    const tookMs = Math.round(performance.now() - startedAt);
    this.#options.logger.info({ probe: file, tookMs, ...answer, machines: undefined }, 'probed the host');
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, `${JSON.stringify({ key, answer }, undefined, 2)}\n`);
    return answer;
  }
}

function who(user: ProcessUser | undefined): string {
  return user === undefined ? '' : ` ${user.uid}:${user.gid}`;
}

async function fileKey(path: string): Promise<string> {
  const { mtimeMs, size } = await stat(path);
  return `${path} ${mtimeMs} ${size}`;
}

/** Undefined for a file that is not there or holds no JSON: it is written anew. */
async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
}
