/**
 * Processes of ours that are in no record: an agent died between their spawn and the writing of that down. They are found by their
 * arguments, which name the VM's own directory of sockets, and a QEMU by its uuid as well; anybody else's process that only looks at such
 * a file is none. One look at /proc serves all VMs.
 */
import { readdir, readFile } from 'node:fs/promises';
import { identityOf, type ProcessIdentity, processExit, signalProcess } from '../process-identity.ts';
import { settledWithin } from './deadline.ts';

interface RunningProgram {
  readonly pid: number;
  readonly argv: readonly string[];
}

export interface StrayOwner {
  readonly uuid: string;
  readonly monitorSocket: string;
  readonly runDir: string;
}

const KILL_MS = 5_000;

export class StrayProcesses {
  readonly #programs: readonly RunningProgram[];

  private constructor(programs: readonly RunningProgram[]) {
    this.#programs = programs;
  }

  static async look(): Promise<StrayProcesses> {
    const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number);
    const programs = await Promise.all(pids.map(async (pid) => ({ pid, argv: await argumentsOf(pid) })));
    return new StrayProcesses(programs.filter(({ argv }) => argv.length > 1));
  }

  /** Ends the QEMU and the vsock daemon of a VM that has no process by its record, and waits for that. */
  async end(owner: StrayOwner): Promise<void> {
    await this.#kill(({ argv }) => isQemuOf(argv, owner) || isDaemonIn(argv, owner.runDir));
  }

  /** The same for a VM whose record cannot be read, so that its uuid is not known: its sockets are nobody else's. */
  async endUnrecorded({ monitorSocket, runDir }: Omit<StrayOwner, 'uuid'>): Promise<void> {
    await this.#kill(({ argv }) => (argv.includes('-uuid') && hasMonitor(argv, monitorSocket)) || isDaemonIn(argv, runDir));
  }

  /** Ends what serves VMs that are no more: the daemons of a directory below the agent's run directory. */
  async endDaemonsIn(runDir: string): Promise<void> {
    await this.#kill(({ argv }) => isDaemonIn(argv, runDir));
  }

  async #kill(isStray: (program: RunningProgram) => boolean): Promise<void> {
    const strays = this.#programs.filter(isStray);
    await Promise.all(strays.map((stray) => kill(stray)));
  }
}

/** The program is looked at once more behind its identity: the pid may be another's since. */
async function kill({ pid, argv }: RunningProgram): Promise<void> {
  const identity: ProcessIdentity | undefined = identityOf(pid);
  if (identity === undefined) return;
  const now = await argumentsOf(pid);
  if (now.join('\0') !== argv.join('\0') || !signalProcess(identity, 'SIGKILL')) return;
  await settledWithin(processExit(identity), KILL_MS);
}

function isQemuOf(argv: readonly string[], { uuid, monitorSocket }: StrayOwner): boolean {
  return hasUuid(argv, uuid) && hasMonitor(argv, monitorSocket);
}

function hasMonitor(argv: readonly string[], path: string): boolean {
  return argv.some((argument) => argument.includes(`path=${path.replaceAll(',', ',,')},`));
}

export function hasUuid(argv: readonly string[], uuid: string): boolean {
  const index = argv.indexOf('-uuid');
  return index >= 0 && argv[index + 1] === uuid;
}

/** `vhost-device-vsock --socket RUN/NAME/vh` */
function isDaemonIn(argv: readonly string[], runDir: string): boolean {
  const index = argv.indexOf('--socket');
  return index >= 0 && argv[index + 1]?.startsWith(`${runDir}/`) === true && argv.includes('--uds-path');
}

/** Of a process that is gone, or a kernel thread: none. */
export async function argumentsOf(pid: number): Promise<string[]> {
  try {
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').slice(0, -1);
  } catch {
    return [];
  }
}
