/**
 * What holds the processes of VMs on this host: the user that they run as, the control group of each, and their share of the host.
 *
 *     enter (before a start) ──▶ processes are spawned with its guard ──▶ leave (when they are gone, or the start has failed)
 *     adopt (at the agent's start, for a VM that runs) ───────────────────▲
 *
 * It lasts as long as the VM's run directory does and owns who may use that directory: with a user of its own QEMU gets the directory of
 * its sockets, its console log, and the way there (the owner's group may pass, not look around), and no other file of the agent.
 */
import { constants } from 'node:fs';
import { chown, open, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Logger } from '../api.ts';
import { consoleInputOf } from '../console/console-pipes.ts';
import type { VmPaths } from '../store.ts';
import { type CgroupLimits, type CgroupSetting, type CgroupSupport, findCgroups } from './cgroup.ts';
import { inheritedDescriptors, type ProcessGuard } from './guarded-spawn.ts';
import { openPassage } from './passage.ts';
import { checkAccess, findUser, type NeededFile, type ProcessUser } from './process-user.ts';
import { type ShareLimits, Shares } from './share.ts';

export interface ConfinementSettings extends ShareLimits {
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  /** Default `off`. */
  readonly cgroup?: CgroupSetting | undefined;
  /** What a VM may take beyond its RAM. */
  readonly memoryOverheadBytes?: number | undefined;
  /** How much sooner than others a VM is ended when the host is out of memory; see proc(5). Default: as the agent. */
  readonly oomScoreAdj?: number | undefined;
}

const OWN_OOM_SCORE = '/proc/self/oom_score_adj';
const MIB = 1024 ** 2;
const DEFAULT_OVERHEAD_BYTES = 256 * MIB;
/** QEMU's emulator keeps what it has translated, up to this much. */
const TRANSLATIONS_BYTES = 1024 * MIB;
/** Page tables and QEMU's own notes grow with the RAM. */
const OVERHEAD_SHARE = 1 / 32;
/** QEMU's own work, beside the guest's CPUs. */
const OVERHEAD_CPUS = 0.5;
/** Threads that QEMU makes for its disks, and those of the vsock daemon. */
const OVERHEAD_PROCESSES = 256;

export class Confinement {
  readonly user: ProcessUser | undefined;
  readonly cgroups: CgroupSupport;
  readonly #shares: Shares;
  readonly #settings: ConfinementSettings;
  readonly #oomScoreAdj: number | undefined;
  readonly #logger: Logger;
  readonly #strangers = inheritedDescriptors();

  private constructor(parts: {
    settings: ConfinementSettings;
    user: ProcessUser | undefined;
    cgroups: CgroupSupport;
    oomScoreAdj: number | undefined;
    logger: Logger;
  }) {
    this.user = parts.user;
    this.cgroups = parts.cgroups;
    this.#settings = parts.settings;
    this.#shares = new Shares(parts.settings);
    this.#oomScoreAdj = parts.oomScoreAdj;
    this.#logger = parts.logger;
  }

  /** Once, at the agent's start. @throws FairleadError for a user that cannot be had: VMs never run as another unseen. */
  static async open(settings: ConfinementSettings, logger: Logger): Promise<Confinement> {
    const [user, cgroups, oomScoreAdj] = await Promise.all([
      findUser(settings),
      findCgroups(settings.cgroup ?? 'off'),
      settableOomScore(settings.oomScoreAdj, logger),
    ]);
    if (cgroups.available) {
      const { root, controllers } = cgroups.tree;
      logger.info({ root, controllers }, 'VMs are held by control groups');
    }
    return new Confinement({ settings, user, cgroups, oomScoreAdj, logger });
  }

  /**
   * Before anything of the VM is spawned; its run directory is there. What fails leaves nothing, `leave` undoes what did not.
   * @throws FairleadError LIMIT_EXCEEDED where the host's share is used up, PERMISSION_DENIED for a file that QEMU's user cannot open.
   */
  async enter(spec: VmSpec, paths: VmPaths): Promise<ProcessGuard> {
    this.#shares.take(spec);
    try {
      const { user, cgroups } = this;
      if (user !== undefined) await makeRoom(spec, paths, user);
      const cgroup = cgroups.available ? await cgroups.tree.create(spec.name, this.#limitsOf(spec)) : undefined;
      return { user, cgroup, oomScoreAdj: this.#oomScoreAdj, strangers: this.#strangers };
    } catch (error) {
      this.#shares.free(spec.name);
      throw toFairleadError(error);
    }
  }

  /** Whether QEMU's user can open what the spec names. @throws FairleadError PERMISSION_DENIED */
  async checkFiles(spec: VmSpec): Promise<void> {
    if (this.user !== undefined) await checkAccess(spec.name, this.user, filesOf(spec));
  }

  /** For one more process of a VM that runs, which may have been started before there were groups. */
  guardOf(name: string): ProcessGuard {
    const { user, cgroups } = this;
    const own = cgroups.available ? cgroups.tree.of(name) : undefined;
    const cgroup = own?.exists === true ? own : undefined;
    return { user, cgroup, oomScoreAdj: this.#oomScoreAdj, strangers: this.#strangers };
  }

  /** Whether the VM could ever be entered. @throws FairleadError LIMIT_EXCEEDED */
  checkSize(spec: VmSpec): void {
    this.#shares.checkAlone(spec);
  }

  /** For a VM that runs already, whatever the limits are by now. */
  adopt(spec: VmSpec): void {
    this.#shares.adopt(spec);
  }

  /** Nothing of the VM is to run any more. Never throws: a group that cannot be removed is tried again before the next start. */
  async leave(name: string): Promise<void> {
    this.#shares.free(name);
    if (!this.cgroups.available) return;
    try {
      await this.cgroups.tree.of(name).remove();
    } catch (error) {
      this.#logger.error({ vm: name, error: toFairleadError(error).message }, 'could not remove the control group of a VM');
    }
  }

  /** Whether the kernel has ended a process of the VM because its group was out of memory. */
  wasOutOfMemory(name: string): boolean {
    return this.cgroups.available && this.cgroups.tree.of(name).outOfMemoryKills() > 0;
  }

  #limitsOf({ memory, cpus, accelerator }: VmSpec): CgroupLimits {
    const { memoryOverheadBytes = DEFAULT_OVERHEAD_BYTES } = this.#settings;
    const ramBytes = memory.maxBytes ?? memory.bytes;
    const translations = accelerator === 'kvm' ? 0 : TRANSLATIONS_BYTES;
    return {
      memoryBytes: Math.ceil(ramBytes * (1 + OVERHEAD_SHARE)) + memoryOverheadBytes + translations,
      cpus: cpus.count + OVERHEAD_CPUS,
      processes: 2 * cpus.count + OVERHEAD_PROCESSES,
    };
  }
}

/** What QEMU's user needs of the agent's own files, and no more; then that it can open all that the spec names. */
async function makeRoom(spec: VmSpec, paths: VmPaths, user: ProcessUser): Promise<void> {
  const vms = dirname(paths.dir);
  const passages = [dirname(vms), vms, paths.dir, dirname(paths.consoleLog), dirname(paths.runDir)];
  await Promise.all(passages.map((path) => openPassage(path, user)));
  await chown(paths.runDir, user.uid, user.gid);
  // Its directory is the agent's, so no link can stand there that leads elsewhere.
  await using log = await open(paths.consoleLog, constants.O_CREAT | constants.O_WRONLY | constants.O_NOFOLLOW, 0o600);
  await log.chown(user.uid, user.gid);
  await chown(consoleInputOf(paths), user.uid, user.gid);
  await checkAccess(spec.name, user, [
    ...filesOf(spec),
    { field: 'the console log', path: paths.consoleLog, writable: true },
    { field: 'the run directory', path: paths.runDir, writable: true },
  ]);
}

function filesOf({ boot, disks }: VmSpec): NeededFile[] {
  const needed = (field: string, path: string | undefined, writable: boolean): NeededFile[] =>
    path === undefined ? [] : [{ field, path, writable }];
  return [
    ...needed('spec.boot.firmware.code', boot.firmware?.code, false),
    ...needed('spec.boot.firmware.vars', boot.firmware?.vars, true),
    ...needed('spec.boot.kernel', boot.kernel, false),
    ...needed('spec.boot.initrd', boot.initrd, false),
    ...disks.flatMap((disk, index) => needed(`spec.disks[${index}].path`, disk.path, disk.media === 'disk' && !disk.readOnly)),
  ];
}

/** What the agent can give its processes: to be ended less willingly than the agent itself takes a privilege. */
async function settableOomScore(wanted: number | undefined, logger: Logger): Promise<number | undefined> {
  if (wanted === undefined) return undefined;
  try {
    const own = Number(await readFile(OWN_OOM_SCORE, 'utf8'));
    if (own >= wanted) return undefined;
    await writeFile(OWN_OOM_SCORE, String(own));
    return wanted;
  } catch (error) {
    logger.warn({ error: toFairleadError(error).message }, 'VMs keep the out-of-memory score of the agent');
    return undefined;
  }
}
