/**
 * Control groups of the VMs, one each (cgroup v2, kernel Documentation/admin-guide/cgroup-v2.rst): what a VM's processes take of memory,
 * CPU time and processes ends at what its spec is worth, so that a QEMU gone wrong harms itself.
 *
 *     ROOT/                delegated to the agent; its controllers are switched on for the groups below, so no process may be in it itself
 *     ROOT/agent           the agent, where systemd has put it (`DelegateSubgroup=agent`)
 *     ROOT/vm-NAME         QEMU and the vsock daemon of one VM
 *
 * A group that the agent were to share with its VMs could not be started into again by systemd while VMs run, so `auto` uses nothing but
 * the arrangement above, and every other host says why it has no limits.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { access, constants, mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FairleadError } from '../../../shared/errors.ts';

export type Controller = 'cpu' | 'memory' | 'pids';
export const CONTROLLERS: readonly Controller[] = ['cpu', 'memory', 'pids'];
const CPU_PERIOD_US = 100_000;
/** systemd's name for the part of a delegated group in which the service itself is. */
const AGENT_GROUP = 'agent';
/** How long killed processes are given to be gone. */
const KILL_ATTEMPTS = 100;
const KILL_INTERVAL_MS = 20;

export interface CgroupLimits {
  readonly memoryBytes: number;
  /** In CPUs: 1.5 is one and a half. */
  readonly cpus: number;
  readonly processes: number;
}

/** `auto`: the group that the service manager has delegated; else a path, or none. */
export type CgroupSetting = 'auto' | 'off' | (string & {});

export type CgroupSupport =
  | { readonly available: true; readonly tree: CgroupTree }
  | { readonly available: false; readonly reason: string };

/** Never throws: a host without control groups runs VMs all the same. */
export async function findCgroups(setting: CgroupSetting): Promise<CgroupSupport> {
  if (setting === 'off') return { available: false, reason: 'turned off by the configuration (cgroup: off)' };
  try {
    const root = setting === 'auto' ? await delegatedRoot() : setting;
    const tree = await CgroupTree.open(root);
    if (tree.controllers.length > 0) return { available: true, tree };
    return {
      available: false,
      reason: `${root} has none of the controllers ${CONTROLLERS.join(', ')}: switch them on in the group above`,
    };
  } catch (error) {
    return { available: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

export class CgroupTree {
  readonly root: string;
  /** Those whose limits hold here. */
  readonly controllers: readonly Controller[];

  private constructor(root: string, controllers: readonly Controller[]) {
    this.root = root;
    this.controllers = controllers;
  }

  /** @throws Error that says what is missing. */
  static async open(root: string): Promise<CgroupTree> {
    await mkdir(root).catch(() => {});
    const present = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => undefined);
    if (present === undefined) throw new Error(`${root} is no control group (cgroup v2)`);
    await access(root, constants.W_OK).catch(() => {
      throw new Error(`${root} is not delegated to the agent: it cannot make groups in it`);
    });
    // Looked at first: a group with processes takes some controllers and not others, and is then neither the one thing nor the other.
    if (await hasProcesses(root)) throw new Error(`${root} holds processes itself, so nothing below it can be limited`);
    const enabled: Controller[] = [];
    for (const name of CONTROLLERS.filter((controller) => present.split(/\s+/).includes(controller))) {
      await writeFile(join(root, 'cgroup.subtree_control'), `+${name}`);
      enabled.push(name);
    }
    return new CgroupTree(root, enabled);
  }

  /** The group of a VM, with these limits, empty. */
  async create(vm: string, limits: CgroupLimits): Promise<Cgroup> {
    const cgroup = this.of(vm);
    await cgroup.remove();
    await mkdir(cgroup.path);
    const cpuQuotaUs = Math.ceil(limits.cpus * CPU_PERIOD_US);
    const values: Record<Controller, readonly (readonly [file: string, value: string])[]> = {
      // What makes a VM lose one of its processes makes it lose all: half a VM is of use to nobody.
      memory: [
        ['memory.max', String(limits.memoryBytes)],
        ['memory.oom.group', '1'],
      ],
      cpu: [['cpu.max', `${cpuQuotaUs} ${CPU_PERIOD_US}`]],
      pids: [['pids.max', String(limits.processes)]],
    };
    for (const [file, value] of this.controllers.flatMap((name) => values[name])) await writeFile(join(cgroup.path, file), value);
    return cgroup;
  }

  /** The group that the VM has, or would have. */
  of(vm: string): Cgroup {
    return new Cgroup(join(this.root, `vm-${vm}`), vm);
  }
}

export class Cgroup {
  readonly path: string;
  readonly #vm: string;

  constructor(path: string, vm: string) {
    this.path = path;
    this.#vm = vm;
  }

  get exists(): boolean {
    return existsSync(this.path);
  }

  /** Moves a process in, at once; what it starts later is in it as well. */
  admit(pid: number): void {
    try {
      writeFileSync(join(this.path, 'cgroup.procs'), String(pid));
    } catch (cause) {
      const message = `could not put process ${pid} of VM ${this.#vm} into its control group ${this.path}: ${messageOf(cause)}`;
      throw new FairleadError('PROCESS_FAILED', message, { cause });
    }
  }

  /** How often the kernel ended something in it for want of memory; 0 where that is not counted. */
  outOfMemoryKills(): number {
    try {
      const events = readFileSync(join(this.path, 'memory.events'), 'utf8');
      return Number(/^oom_kill (\d+)$/m.exec(events)?.[1] ?? 0);
    } catch {
      return 0;
    }
  }

  /** With all that is still in it. Nothing to do where there is none. */
  async remove(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await rmdir(this.path);
      } catch (error) {
        if (codeOf(error) === 'ENOENT') return;
        if (codeOf(error) !== 'EBUSY' || attempt === KILL_ATTEMPTS) throw error;
      }
      // Since Linux 5.14; before that, what is left in it has to end by itself.
      if (attempt === 0) await writeFile(join(this.path, 'cgroup.kill'), '1').catch(() => {});
      await sleep(KILL_INTERVAL_MS);
    }
  }
}

/** The root of all groups, which has no type, may have both processes and groups with limits. */
async function hasProcesses(root: string): Promise<boolean> {
  const type = await readFile(join(root, 'cgroup.type'), 'utf8').catch(() => undefined);
  return type !== undefined && (await readFile(join(root, 'cgroup.procs'), 'utf8')) !== '';
}

/** The group above the agent's own, where that is the part of it that systemd has made for the service. */
async function delegatedRoot(): Promise<string> {
  const own = await ownGroup();
  if (basename(own) === AGENT_GROUP) return dirname(own);
  const how = 'set Delegate=yes and DelegateSubgroup=agent in its unit (systemd 254), or name a group by cgroup';
  throw new Error(`no control group is delegated to the agent: ${how}`);
}

/** proc(5): `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS … - TYPE …`, and `0::PATH` of cgroups(7). */
async function ownGroup(): Promise<string> {
  const [mounts, membership] = await Promise.all([
    readFile('/proc/self/mountinfo', 'utf8'),
    readFile('/proc/self/cgroup', 'utf8'),
  ]);
  const mount = mounts.split('\n').find((line) => line.includes(' - cgroup2 '));
  const [, , , root = '/', mountPoint] = mount?.split(' ') ?? [];
  const path = /^0::(.+)$/m.exec(membership)?.[1];
  if (mountPoint === undefined || path === undefined) throw new Error('this host has no control groups of version 2');
  return join(mountPoint, relative(root, path));
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
