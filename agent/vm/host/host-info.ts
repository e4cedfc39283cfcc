/** The answer to `host.info`: what the host is, and what it lacks and why. */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, freemem, hostname, release, totalmem } from 'node:os';
import { isFairleadError } from '../../../shared/errors.ts';
import type { HostInfo } from '../../../shared/protocol/methods-host.ts';
import { CONTRACT_VERSION } from '../../../shared/protocol/version.ts';
import type { HostVsock } from '../api.ts';
import type { Confinement } from '../confinement/confinement.ts';
import type { HostProbe } from './host-probe.ts';

/** Random at each boot of the machine (random(4)); empty where /proc is not to be had. */
export function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

/**
 * The rate of the time stamp counter, which an emulated guest sees as it is. Undefined where /proc/cpuinfo cannot be trusted to say it:
 * it tells the present clock of a CPU whose frequency is scaled.
 */
export function readTscKhz(): number | undefined {
  if (existsSync('/sys/devices/system/cpu/cpu0/cpufreq')) return undefined;
  try {
    const mhz = /^cpu MHz\s*:\s*([\d.]+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
    return mhz === undefined ? undefined : Math.round(Number(mhz) * 1000);
  } catch {
    return undefined;
  }
}

export interface HostInfoOptions {
  readonly probe: HostProbe;
  readonly vsock: HostVsock;
  readonly confinement: Pick<Confinement, 'cgroups' | 'user'>;
  readonly bootId: string;
  readonly agentVersion: string;
  readonly labels: Readonly<Record<string, string>>;
}

export async function hostInfo(options: HostInfoOptions): Promise<HostInfo> {
  const { probe, vsock, confinement, bootId, agentVersion, labels } = options;
  const { cgroups, user } = confinement;
  const [qemu, kvm] = await Promise.all([qemuInfo(probe), probe.kvm()]);
  return {
    agentVersion,
    contractVersion: CONTRACT_VERSION,
    nodeVersion: process.versions.node,
    hostname: hostname(),
    architecture: process.arch,
    kernel: release(),
    bootId,
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    memoryFreeBytes: freemem(),
    labels,
    qemu,
    kvm: kvm.proven ? { available: true } : { available: false, reason: kvm.reason ?? 'unknown' },
    vsock: vsock.available ? { available: true, detail: vsock.transport.kind } : { available: false, reason: vsock.reason },
    limits: cgroups.available
      ? { available: true, detail: cgroups.tree.controllers.join(', ') }
      : { available: false, reason: cgroups.reason },
    ...(user === undefined ? {} : { qemuUser: user.name }),
  };
}

async function qemuInfo(probe: HostProbe): Promise<HostInfo['qemu']> {
  try {
    const { binary, version, machines } = await probe.qemu();
    return { available: true, binary, version, machines: machines.map(({ name, alias }) => alias ?? name).sort() };
  } catch (error) {
    if (!isFairleadError(error)) throw error;
    return { available: false, reason: error.message };
  }
}
