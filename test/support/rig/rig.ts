/**
 * The rig: a host in a VM, with KVM, vhost-vsock and a NAT of its own, for tests that must not touch this machine's.
 *
 *     await using rig = await startRig();
 *     const { exitCode, stdout } = await rig.run('node test/rig/programs/echo.ts', { timeoutMs: 60_000 });
 *
 * Inside: the project at `/fairlead` (the current folder), Node, QEMU, busybox, the demo guest in `$FAIRLEAD_CACHE_DIR` (so that
 * `artefacts()` finds it), `/dev/kvm`, `/dev/vhost-vsock`, vsock loopback (CID 1), `/tmp` in memory. The machine's loopback is
 * 10.0.2.2: a hub that listens on 127.0.0.1:PORT here is `ws://10.0.2.2:PORT` there. Nothing connects inwards.
 *
 * Commands run one after another; each is a line of shell, its output comes line by line, its standard input is empty. A command that
 * goes on in the background (`cmd &`) outlives its line; what it prints is counted to the command that runs then.
 *
 * Everything emulated is slow: count on 3 s for Node to start and on 15 s for an inner guest. A deadline that passes, or a rig that ends
 * early, rejects with the tail of the console. Disposing kills the VM and removes its files.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QmpClient } from '../../../agent/qmp/client.ts';
import { artefacts } from '../../../cli/image/cache.ts';
import { runCommand } from '../../../cli/image/command.ts';
import { makeProjectDisk } from './project-disk.ts';
import { type CommandResult, openSerialLine } from './serial-line.ts';

export interface RigOptions {
  /** More files, or others: path below `/fairlead` to content. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /**
   * Puts the rig behind an IOMMU, and that many network cards there that the rig itself has no use for: 0000:00:10.0 and on, each with a
   * network of its own that reaches this machine as the rig's does. `load passthrough` loads what hands them on.
   */
  readonly spareCards?: number;
  /** Size of an ext4 disk, `/dev/vdc`, for a test to mount: what is written to it outlives `reset`. Default: none. */
  readonly diskMebibytes?: number;
  /** Until the rig takes commands. Default 300 s. */
  readonly startTimeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface RunOptions {
  /** Default 120 s. */
  readonly timeoutMs?: number;
  /** Called for each line as it comes. */
  readonly onLine?: (line: string, from: 'stdout' | 'stderr') => void;
}

export interface Rig extends AsyncDisposable {
  run(command: string, options?: RunOptions): Promise<CommandResult>;
  /**
   * As by the button of the machine, between two commands: nobody is asked, nothing is written back, and what was in memory is gone. Resolves
   * when the rig takes commands again; `/fairlead` is as it was when it was started, but for what a command has written there.
   */
  reset(): Promise<void>;
  /** All that the kernel and the rig's own scripts have printed. */
  console(): Promise<string>;
}

/** A calm machine takes 10 s. */
export const RIG_START_MS = 300_000;
const RUN_TIMEOUT_MS = 120_000;
const MEMORY_MEBIBYTES = 3072;
const CONSOLE_TAIL_CHARS = 8000;

/** Why no rig can be had on this machine, or undefined when one can: for `describe.skipIf` with a reason. */
export function whyNoRig(): string | undefined {
  const { rigRoot, vmlinux, qemu10 } = artefacts();
  if (rigRoot === undefined || vmlinux === undefined) return 'the rig is not built: run `node scripts/setup.mjs test`';
  return qemu10 === undefined ? 'no QEMU 10 is there: run `node scripts/setup.mjs test`' : undefined;
}

export async function startRig(options: RigOptions = {}): Promise<Rig> {
  const { spareCards = 0, files = {}, diskMebibytes, signal, startTimeoutMs = RIG_START_MS } = options;
  const { rigRoot, rigInitrd, vmlinux, qemu10: qemu } = artefacts();
  if (rigRoot === undefined || rigInitrd === undefined || vmlinux === undefined || qemu === undefined)
    throw new Error(whyNoRig());

  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-rig-'));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  const projectDisk = join(directory, 'project.img');
  const scratch = join(directory, 'project');
  await mkdir(scratch);
  await makeProjectDisk({ file: projectDisk, scratch, files, signal });
  const disk = diskMebibytes === undefined ? undefined : join(directory, 'disk.img');
  if (disk !== undefined) await runCommand('mke2fs', ['-q', '-t', 'ext4', disk, `${diskMebibytes}M`], { signal });

  const line = undo.use(await openSerialLine(directory));
  const consoleFile = join(directory, 'console.log');
  const monitor = join(directory, 'monitor');
  const readConsole = (): Promise<string> => readFile(consoleFile, 'utf8').catch(() => '');
  const child = spawn(
    qemu.binary,
    [
      ...qemu.args,
      ...outerArguments({ vmlinux, rigInitrd, rigRoot, projectDisk, disk, consoleFile, spareCards }),
      '-qmp',
      `unix:${monitor},server=on,wait=off`,
      ...line.serialArguments,
    ],
    { env: { ...process.env, ...qemu.env }, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const stderr: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  undo.defer(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  child.once('error', (error) => line.fail(new Error(`could not start the rig's QEMU ${qemu.binary}`, { cause: error })));
  child.once('close', () => line.fail(new Error(`the rig ended by itself: ${Buffer.concat(stderr).toString()}`)));
  signal?.addEventListener('abort', () => child.kill('SIGKILL'), { once: true });

  const withConsole = async <T>(action: Promise<T>): Promise<T> => {
    try {
      return await action;
    } catch (error) {
      const tail = (await readConsole()).slice(-CONSOLE_TAIL_CHARS);
      throw new Error(`${error instanceof Error ? error.message : String(error)}\nthe rig's console ends:\n${tail}`, {
        cause: error,
      });
    }
  };
  const reset = async (): Promise<void> => {
    const limits = { connectTimeoutMs: startTimeoutMs, greetingTimeoutMs: startTimeoutMs, commandTimeoutMs: startTimeoutMs };
    await using qmp = await QmpClient.connect({ path: monitor, ...limits });
    line.startsAnew();
    // One that restarts by itself has failed, and ends; this one is wanted.
    await qmp.execute('set-action', { reboot: 'reset' });
    await qmp.execute('system_reset');
    await line.ready(startTimeoutMs);
    await qmp.execute('set-action', { reboot: 'shutdown' });
  };
  await withConsole(line.ready(startTimeoutMs));
  const owned = undo.move();
  return {
    run: (command, { timeoutMs = RUN_TIMEOUT_MS, onLine } = {}) => withConsole(line.run(command, timeoutMs, onLine)),
    reset: () => withConsole(reset()),
    console: readConsole,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface OuterMachine {
  readonly vmlinux: string;
  readonly rigInitrd: string;
  readonly rigRoot: string;
  readonly projectDisk: string;
  readonly disk: string | undefined;
  readonly consoleFile: string;
  readonly spareCards: number;
}

/**
 * The outer VM, by QEMU 10: nested KVM needs its emulator. EPYC, for the emulator has AMD's virtualisation; no option ROM for the network
 * card, which is not booted from.
 *
 * One processor. Where two are emulated at once, one run of four that boots two guests side by side ended with a guest that hung at its
 * start, a processor of the rig without a clock, or a stack overflow in the rig's kernel. Most likely QEMU's: in 10.0, SVM changes a
 * processor's pending interrupts at each VMEXIT without the lock under which the others do (target/i386/tcg/sysemu/svm_helper.c).
 */
function outerArguments(machine: OuterMachine): string[] {
  const { vmlinux, rigInitrd, rigRoot, projectDisk, disk, consoleFile, spareCards } = machine;
  // On a busy machine the emulated timer may not tick while Linux looks whether it does, which behind an IOMMU is the end.
  const kernelArguments = 'console=ttyS0 reboot=t panic=-1 quiet mitigations=off no_timer_check';
  const base = `-M q35 -cpu EPYC,check=off -accel tcg -smp 1 -m ${MEMORY_MEBIBYTES} -nodefaults -no-user-config -display none`;
  return base
    .split(' ')
    .concat(
      ['-no-reboot', '-kernel', vmlinux, '-initrd', rigInitrd, '-append', kernelArguments],
      ['-drive', `file=${rigRoot},format=raw,if=virtio,readonly=on`],
      ['-drive', `file=${projectDisk},format=raw,if=virtio,cache=unsafe`],
      disk === undefined ? [] : ['-drive', `file=${disk},format=raw,if=virtio,cache=unsafe`],
      ['-netdev', 'user,id=net0', '-device', 'virtio-net-pci,netdev=net0,romfile='],
      spareCardArguments(spareCards),
      ['-serial', `file:${consoleFile}`],
    );
}

const FIRST_SPARE_CARD = 0x10;

/** Interrupts are remapped too: without that Linux hands on no device. Legacy virtio would go past the IOMMU. */
function spareCardArguments(count: number): string[] {
  if (count === 0) return [];
  const cards = Array.from({ length: count }, (_, index) => {
    const card = `virtio-net-pci,netdev=spare${index},iommu_platform=on,disable-legacy=on,romfile=`;
    const address = (FIRST_SPARE_CARD + index).toString(16);
    return ['-netdev', `user,id=spare${index}`, '-device', `${card},addr=${address},mac=52:54:00:00:00:${address}`];
  });
  return ['-device', 'intel-iommu,intremap=on', ...cards.flat()];
}
