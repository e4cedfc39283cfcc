/**
 * `fairlead doctor`: is this machine fit to be a host, and does the hub answer? Each check is one line with what to do about it; ends with 1
 * when one of those fails that everything depends on.
 */
import { access, constants } from 'node:fs/promises';
import { freemem } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Command } from 'commander';
import { type App, globalOptions, outputOf } from '../app.ts';
import { connectHub } from '../connection.ts';
import { type HubContext, resolveContext } from '../context.ts';
import { artefacts } from '../image/cache.ts';
import { demoImage } from '../image/demo-image.ts';
import { humanBytes } from '../output.ts';

interface Finding {
  readonly check: string;
  /** `warn`: something works less well; `fail`: nothing works without it. */
  readonly verdict: 'ok' | 'warn' | 'fail';
  readonly detail: string;
}

const QEMU_BINARY = process.arch === 'arm64' ? 'qemu-system-aarch64' : 'qemu-system-x86_64';
const ENOUGH_MEMORY_BYTES = 512 * 1024 ** 2;

export function registerDoctor(program: Command, app: App): void {
  program
    .command('doctor')
    .description('check this machine as a host, and the way to the hub')
    .action(async (_options: object, command: Command) => {
      const findings = [
        ...(await Promise.all([checkQemu(app), checkKvm(), checkVsock()])),
        checkImage(),
        checkMemory(),
        await checkHub(app, command),
      ];
      outputOf(app, command).list(
        findings,
        [
          { title: 'CHECK', value: (row) => row.check },
          { title: 'VERDICT', value: (row) => row.verdict },
          { title: 'DETAIL', value: (row) => row.detail },
        ],
        { name: (row) => row.check, empty: 'nothing to check' },
      );
      if (findings.some((finding) => finding.verdict === 'fail')) app.exitCode = 1;
    });
}

async function checkQemu(app: App): Promise<Finding> {
  for (const directory of (app.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, QEMU_BINARY);
    if (await accessible(path, constants.X_OK)) return { check: 'qemu', verdict: 'ok', detail: path };
  }
  return {
    check: 'qemu',
    verdict: 'fail',
    detail: `${QEMU_BINARY} is not on PATH: install it (Debian: apt install qemu-system-x86)`,
  };
}

/** Whether KVM really runs a guest is proved by the agent (`fairlead host show`): the device alone does not tell. */
async function checkKvm(): Promise<Finding> {
  const usable = await accessible('/dev/kvm', constants.R_OK | constants.W_OK);
  return usable
    ? { check: 'kvm', verdict: 'ok', detail: '/dev/kvm can be opened; the agent proves that it works before it relies on it' }
    : { check: 'kvm', verdict: 'warn', detail: '/dev/kvm cannot be opened: guests run in emulation, many times slower' };
}

async function checkVsock(): Promise<Finding> {
  if (await accessible('/dev/vhost-vsock', constants.R_OK | constants.W_OK)) {
    return { check: 'vsock', verdict: 'ok', detail: '/dev/vhost-vsock can be opened' };
  }
  const daemon = artefacts().vhostDeviceVsock;
  return daemon === undefined
    ? {
        check: 'vsock',
        verdict: 'warn',
        detail:
          'no streams into guests: /dev/vhost-vsock is missing or closed to you (modprobe vhost_vsock), and there is no vhost-device-vsock on PATH (in a clone, `npm run demo` fetches it)',
      }
    : { check: 'vsock', verdict: 'ok', detail: `no /dev/vhost-vsock; streams go through ${daemon}, without half-close` };
}

function checkImage(): Finding {
  const image = demoImage();
  return image === undefined
    ? { check: 'image', verdict: 'warn', detail: 'no demo guest yet: `fairlead image build` makes one' }
    : { check: 'image', verdict: 'ok', detail: image.kernel };
}

function checkMemory(): Finding {
  const free = freemem();
  return { check: 'memory', verdict: free < ENOUGH_MEMORY_BYTES ? 'warn' : 'ok', detail: `${humanBytes(free)} free` };
}

async function checkHub(app: App, command: Command): Promise<Finding> {
  const options = globalOptions(command);
  let context: HubContext;
  try {
    context = await resolveContext(options, app.env);
  } catch (error) {
    // A host needs no operator's way to the hub: the agent has its own.
    return { check: 'hub', verdict: 'warn', detail: `not asked: ${messageOf(error)}` };
  }
  try {
    await using hub = await connectHub(context, { timeoutMs: options.timeout, signal: app.signal });
    const info = await hub.call('hub.info', {});
    return {
      check: 'hub',
      verdict: 'ok',
      detail: `version ${info.version}, ${info.hostsConnected} of ${info.hostsEnrolled} hosts connected`,
    };
  } catch (error) {
    return { check: 'hub', verdict: 'fail', detail: messageOf(error) };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function accessible(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
