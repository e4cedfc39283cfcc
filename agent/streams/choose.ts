/** Which vsock transport this host has. Asked once, at the start of the agent; the answer stands in `host.info`. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import type { HostVsock, Logger } from '../vm/api.ts';
import type { VsockTransport } from './transport.ts';

/** Debian puts helpers of QEMU where PATH does not look. */
const EXTRA_DIRECTORIES = ['/usr/libexec', '/usr/lib/qemu'];
const DAEMON = 'vhost-device-vsock';

export interface ChooseOptions {
  /** `auto` takes vhost-vsock where the host has it, and else the daemon. */
  readonly want: 'auto' | VsockTransport['kind'] | 'off';
  /** Path or name of vhost-device-vsock. */
  readonly daemon?: string | undefined;
  /** Directories to look in, as in PATH. */
  readonly path: string;
  readonly logger: Logger;
}

/** Never throws: a host without vsock runs VMs all the same. */
export async function chooseTransport(options: ChooseOptions): Promise<HostVsock> {
  const { want } = options;
  if (want === 'off') return { available: false, reason: 'turned off by the configuration (vsock: off)' };
  const kernel = want === 'vhost-user' ? undefined : await kernelTransport(options);
  if (kernel?.available === true) return kernel;
  const daemon = want === 'vhost-vsock' ? undefined : await daemonTransport(options);
  if (daemon?.available === true) return daemon;
  const reasons = [kernel, daemon].flatMap((answer) => (answer === undefined ? [] : [answer.reason]));
  return { available: false, reason: reasons.join('; ') };
}

type Answer = { available: true; transport: VsockTransport } | { available: false; reason: string };

/** Modules are loaded only where they are used: the add-on is not part of an agent's start without it. */
async function kernelTransport({ logger }: ChooseOptions): Promise<Answer> {
  const [{ vsockCapability }, { requireNative }] = await Promise.all([
    import('../../native/capability.ts'),
    import('../../native/index.ts'),
  ]);
  const capability = vsockCapability();
  if (!capability.available) return { available: false, reason: `vhost-vsock: ${capability.reason}` };
  try {
    const [{ selfTest }, { afVsockTransport }] = await Promise.all([
      import('../../native/self-test.ts'),
      import('./af-vsock.ts'),
    ]);
    await selfTest();
    return { available: true, transport: afVsockTransport({ api: requireNative(), logger }) };
  } catch (error) {
    return { available: false, reason: `vhost-vsock: ${error instanceof Error ? error.message : String(error)}` };
  }
}

async function daemonTransport({ daemon, path, logger }: ChooseOptions): Promise<Answer> {
  const binary = findExecutable(daemon ?? DAEMON, path);
  if (binary === undefined) {
    const where =
      daemon === undefined ? 'on PATH: install the package vhost-device-vsock or set vhostDeviceVsock' : `at ${daemon}`;
    return { available: false, reason: `vhost-user: no executable ${DAEMON} ${where}` };
  }
  const { vhostUserTransport } = await import('./vhost-user.ts');
  return { available: true, transport: vhostUserTransport({ binary, logger }) };
}

function findExecutable(name: string, path: string): string | undefined {
  const candidates = name.includes('/')
    ? [name]
    : [...path.split(delimiter).filter(isAbsolute), ...EXTRA_DIRECTORIES].map((directory) => join(directory, name));
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return statSync(candidate).isFile();
    } catch {
      return false;
    }
  });
}
