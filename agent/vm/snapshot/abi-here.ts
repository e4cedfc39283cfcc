/** What the guest of a spec would see of its machine if it were started here and now (guest-abi.ts), with what was settled before. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Vms } from '../api.ts';
import { type GuestAbi, guestAbiOf, withPorts } from './guest-abi.ts';
import type { Manifest } from './manifest.ts';
import { withoutLostAgent } from './unplug.ts';

export async function abiOn(vms: Vms, spec: VmSpec, { machine, accelerator, ports }: Manifest['facts']): Promise<GuestAbi> {
  const [{ argv }, cpuOf] = await Promise.all([
    vms.args({ spec: withPorts({ ...withoutLostAgent(spec), accelerator }, ports) }),
    accelerator === 'kvm' ? hostCpu() : qemuOf(vms),
  ]);
  const abi = guestAbiOf(argv, () => cpuOf);
  const [, ...properties] = abi.machine.split(',');
  return { ...abi, machine: [machine, ...properties].join(',') };
}

/** An emulated CPU can what its QEMU can. */
async function qemuOf(vms: Vms): Promise<string> {
  const { qemu } = await vms.hostInfo();
  return `QEMU ${qemu.version ?? 'unknown'}`;
}

/** For the machine of one process, whichever its accelerator is. */
export async function cpusOf(qemuVersion: string): Promise<(model: 'host' | 'max') => string> {
  const host = await hostCpu();
  return (model) => (model === 'host' ? host : `QEMU ${qemuVersion}`);
}

/** By what the kernel says of its model and features. */
async function hostCpu(): Promise<string> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  const line = (key: RegExp): string => key.exec(text)?.[1]?.trim() ?? 'unknown';
  const features = createHash('sha256')
    .update(line(/^(?:flags|Features)\s*:(.*)$/m))
    .digest('hex');
  return `${line(/^(?:model name|CPU part)\s*:(.*)$/m)}, features ${features.slice(0, 16)}`;
}
