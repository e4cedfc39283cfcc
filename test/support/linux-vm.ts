/** The demo guest as a VM of a manager, with a vsock by which a test runs commands in it. */
import type { Duplex } from 'node:stream';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { tailOf } from '../../agent/vm/logs/log-file.ts';
import type { VmManager, VmManagerOptions } from '../../agent/vm/manager.ts';
import { artefacts } from '../../cli/image/cache.ts';
import type { VmSpec, VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { nextEvent, silent, spec, type TestHost, testHost, whyNoQemu } from './vm.ts';

const { vmlinux, initrd, vhostDeviceVsock } = artefacts();
const RUN_PORT = 1024;
const READY_PORT = 1023;
const CONNECT_MS = 60_000;
/** A guest on a busy machine, or one in a rig, may take that long to boot; below the limit of a test with guests. */
const READY_MS = 150_000;

/** Why there can be none, or undefined. */
export function whyNoLinux(): string | undefined {
  if (vmlinux === undefined || initrd === undefined || vhostDeviceVsock === undefined)
    return 'the guest image or vhost-device-vsock is not in the cache: npm run setup';
  return whyNoQemu();
}

export function linuxHost(options: Partial<VmManagerOptions> = {}): Promise<TestHost> {
  const transport = vhostUserTransport({ binary: vhostDeviceVsock ?? '', logger: silent });
  return testHost({ vsock: { available: true, transport }, ...options });
}

export function linuxSpec(input: VmSpecInput): VmSpec {
  return spec({
    memory: { bytes: '256MiB' },
    boot: { kernel: vmlinux, initrd, args: 'console=ttyS0 reboot=t panic=-1 quiet' },
    vsock: { readyPort: READY_PORT },
    ...input,
  });
}

/** Runs a VM until its guest says that it is ready. */
export async function runLinux(manager: VmManager, input: VmSpecInput): Promise<VmSpec> {
  const complete = linuxSpec(input);
  const ready = nextEvent(manager, 'vm.ready', input.name, READY_MS);
  await manager.run(complete);
  await ready.catch(async (cause: unknown) => {
    throw new Error(`${String(cause)}; the console ends: ${await consoleTail(manager, complete.name)}`, { cause });
  });
  return complete;
}

async function consoleTail(manager: VmManager, vm: string): Promise<string> {
  await using console = await manager.openLog(vm, 'console');
  return tailOf(console.log.path);
}

/** What a shell command in the guest prints, both of its outputs. */
export async function inGuest(manager: VmManager, vm: string, command: string): Promise<string> {
  const { stream } = await manager.openStream({ vm, port: RUN_PORT, connectTimeoutMs: CONNECT_MS });
  stream.write(`${command}\n`);
  try {
    return await readAll(stream);
  } finally {
    // The guest has ended its half; ours is open.
    stream.destroy();
  }
}

async function readAll(stream: Duplex): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text.trim();
}
