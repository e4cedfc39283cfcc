/**
 * What is on disk of each VM:
 *
 *     STATE/vms/NAME/vm.json            the record below, replaced atomically
 *     STATE/vms/NAME/console.in, .out   the way of what is typed on the serial console
 *     STATE/vms/NAME/logs/qemu.log      QEMU's own words, appended over all starts
 *     STATE/vms/NAME/logs/console.log   the guest's serial console, appended over all starts
 *     STATE/vms/NAME/suspended          the state of its devices, while it is suspended
 *     RAM/NAME.ram, NAME.ram-added      its RAM, where the spec wants it in files; RAM is STATE/ram unless told otherwise
 *     RUN/NAME/                         sockets; gone when the VM is not running
 *
 * A directory without a record is a `create` or `delete` that was cut short; the next start of the agent removes it. A record that
 * cannot be read is told as broken and left for a person.
 */
import { lchown, lstat, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { Count, Name, Timestamp } from '../../shared/protocol/common.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { VmExit } from '../../shared/protocol/vm.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { failpoint } from '../failpoint.ts';
import { syncDirectory, type WrittenBeside, writeBeside, writeFileAtomic } from './atomic-file.ts';
import { removeRamFiles } from './snapshot/ram-file.ts';
import { Suspension, UnpluggedVsock } from './snapshot/suspension.ts';
import { RUNGS } from './stop-ladder.ts';

/** A QEMU process, with all that a later agent needs to know it again and to go on with it. */
const ProcessRecord = v.strictObject({
  pid: Count,
  startTime: v.string(),
  bootId: v.string(),
  binary: v.string(),
  argv: v.array(v.string()),
  accelerator: v.picklist(['kvm', 'tcg']),
  qemuVersion: v.string(),
  startedAt: Timestamp,
  /** Where this process's words begin in qemu.log. */
  logOffset: Count,
  vsock: v.optional(
    v.strictObject({
      kind: v.picklist(['vhost-vsock', 'vhost-user']),
      cid: Count,
      daemon: v.optional(v.strictObject({ pid: Count, startTime: v.string() })),
    }),
  ),
});
export type ProcessRecord = v.InferOutput<typeof ProcessRecord>;

const VmRecord = v.strictObject({
  version: v.literal(1),
  uuid: v.pipe(v.string(), v.uuid()),
  spec: VmSpec,
  createdAt: Timestamp,
  generation: Count,
  /**
   * `starting` from before the spawn until the guest was told to run; `running` then, whatever the guest does, until the process ends or
   * a stop begins (`stopping`). A suspend is `suspending` until its guest is saved, and a resume stays `suspended` until its commit
   * point: from there on, until the guest was told to run, it is `resuming`.
   */
  state: v.picklist(['created', 'starting', 'running', 'suspending', 'suspended', 'resuming', 'stopping', 'stopped', 'crashed']),
  ready: v.boolean(),
  process: v.optional(ProcessRecord),
  exit: v.optional(VmExit),
  /** The stop that is under way, for whoever has to finish it. */
  stop: v.optional(v.strictObject({ graceMs: v.number(), rung: v.picklist(RUNGS) })),
  /** Of a guest that sleeps, and of no other. */
  suspension: v.optional(Suspension),
  /** What the guest had to let go of to be suspended, until it has dialled through the one that it got for it; not in `spec` meanwhile. */
  unpluggedVsock: v.optional(UnpluggedVsock),
  /** The idle policy leaves it awake until then (`vm.hold`), whichever agent it has. */
  heldUntil: v.optional(Timestamp),
  /** Where the restart policy stands, see restart.ts. */
  restarts: v.optional(v.strictObject({ attempts: Count, dueAt: v.optional(Timestamp) })),
});
export type VmRecord = v.InferOutput<typeof VmRecord>;

export interface VmPaths {
  readonly dir: string;
  readonly record: string;
  readonly qemuLog: string;
  readonly consoleLog: string;
  readonly runDir: string;
  readonly qmpSocket: string;
  readonly monitorSocket: string;
  /** `….in` and `….out` of the serial console, see console/console-pipes.ts. */
  readonly consolePipes: string;
  /** The host's end of the guest agent's virtio-serial port. */
  readonly guestAgentSocket: string;
  /** Guest RAM of a VM whose spec wants it in files. */
  readonly ramFile: string;
  readonly addedRamFile: string;
  /** The state directory, where the directory of these is the default one (snapshot/ram-directory.ts). */
  readonly ramOwner?: string | undefined;
  /** The state of the devices of a guest that sleeps. */
  readonly deviceState: string;
  /** What QEMU tells of itself, see trail.ts. */
  readonly trail: string;
}

export type StoredVm =
  | { readonly kind: 'vm'; readonly name: string; readonly record: VmRecord }
  | { readonly kind: 'broken'; readonly name: string; readonly reason: string };

/** `sun_path` holds 108 bytes with its NUL (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;

export interface VmStoreOptions {
  readonly stateDir: string;
  readonly runDir: string;
  readonly ramDir?: string | undefined;
  readonly ramDirIsDefault?: boolean | undefined;
}

export class VmStore {
  readonly #stateDir: string;
  readonly #runDir: string;
  readonly #ramDir: string;
  readonly #ramOwner: string | undefined;

  constructor({ stateDir, runDir, ramDir, ramDirIsDefault = false }: VmStoreOptions) {
    this.#stateDir = stateDir;
    this.#runDir = runDir;
    this.#ramDir = ramDir ?? join(stateDir, 'ram');
    this.#ramOwner = ramDirIsDefault ? stateDir : undefined;
  }

  get #vms(): string {
    return join(this.#stateDir, 'vms');
  }

  paths(name: string): VmPaths {
    const dir = join(this.#vms, name);
    const runDir = join(this.#runDir, name);
    return {
      dir,
      record: join(dir, 'vm.json'),
      qemuLog: join(dir, 'logs', 'qemu.log'),
      consoleLog: join(dir, 'logs', 'console.log'),
      runDir,
      qmpSocket: join(runDir, 'qmp.sock'),
      monitorSocket: join(runDir, 'monitor.sock'),
      consolePipes: join(dir, 'console'),
      guestAgentSocket: join(runDir, 'agent.sock'),
      ramFile: join(this.#ramDir, `${name}.ram`),
      addedRamFile: join(this.#ramDir, `${name}.ram-added`),
      ramOwner: this.#ramOwner,
      deviceState: join(dir, 'suspended'),
      trail: join(runDir, 'trail.jsonl'),
    };
  }

  /** Every VM on disk, by name; what was cut short is removed on the way. */
  async open(): Promise<StoredVm[]> {
    await mkdir(this.#vms, { recursive: true, mode: 0o700 });
    await mkdir(this.#runDir, { recursive: true, mode: 0o700 });
    // What else lies here, such as a copy that somebody has made or `lost+found`, is none of ours.
    const names = (await readdir(this.#vms)).filter((name) => v.is(Name, name)).sort();
    const stored = await Promise.all(names.map((name) => this.#read(name)));
    return stored.filter((vm) => vm !== undefined);
  }

  /**
   * @throws FairleadError UNSUPPORTED when the sockets' paths would not fit.
   */
  async create(record: VmRecord): Promise<void> {
    const paths = this.paths(record.spec.name);
    checkSocketPaths(paths);
    await mkdir(join(paths.dir, 'logs'), { recursive: true, mode: 0o700 });
    await failpoint('create.directory-made');
    await this.save(record);
    await syncDirectory(this.#vms);
    await failpoint('create.recorded');
  }

  /** One save of a VM at a time: its supervisor sees to it. */
  async save(record: VmRecord): Promise<void> {
    await writeFileAtomic(this.paths(record.spec.name).record, textOf(record));
  }

  /** All of a save but its last step. Saves may come and go meanwhile; one of these a VM at a time. */
  prepare(record: VmRecord): Promise<WrittenBeside> {
    return writeBeside(this.paths(record.spec.name).record, textOf(record), '.ahead');
  }

  async remove(name: string): Promise<void> {
    const paths = this.paths(name);
    const { dir, record, runDir } = paths;
    // The record first: what is left without one after a crash counts as deleted.
    await rm(record, { force: true });
    await failpoint('delete.record-removed');
    await Promise.all([rm(runDir, { recursive: true, force: true }), removeRamFiles(paths)]);
    // Last, for by it what is left of the others is found.
    await rm(dir, { recursive: true, force: true });
    await failpoint('delete.files-removed');
  }

  /** Directories below the run directory that may be those of VMs, whether or not there is such a VM. */
  async runDirs(): Promise<{ readonly name: string; readonly path: string }[]> {
    const entries = await readdir(this.#runDir, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isDirectory() && v.is(Name, entry.name)).map(({ name }) => name);
    return names.map((name) => ({ name, path: join(this.#runDir, name) }));
  }

  async makeRunDir(name: string): Promise<void> {
    const { runDir } = this.paths(name);
    await this.removeRunDir(name);
    await mkdir(runDir, { recursive: true, mode: 0o700 });
  }

  async removeRunDir(name: string): Promise<void> {
    const { runDir } = this.paths(name);
    await takeBack(runDir);
    await rm(runDir, { recursive: true, force: true });
  }

  async #read(name: string): Promise<StoredVm | undefined> {
    const paths = this.paths(name);
    try {
      const record = parseWith(VmRecord, JSON.parse(await readFile(paths.record, 'utf8')), 'vm');
      if (!v.is(Name, name) || record.spec.name !== name) throw new Error(`it is the record of VM '${record.spec.name}'`);
      return { kind: 'vm', name, record };
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
        await removeRamFiles(paths);
        await rm(paths.dir, { recursive: true, force: true });
        return undefined;
      }
      return { kind: 'broken', name, reason: `could not read ${paths.record}: ${toFairleadError(error).message}` };
    }
  }
}

function textOf(record: VmRecord): string {
  return `${JSON.stringify(record, undefined, 2)}\n`;
}

/** One that was QEMU's own: while it is removed, nobody is to change what is removed. */
async function takeBack(directory: string): Promise<void> {
  const { geteuid, getegid } = process;
  const is = await lstat(directory).catch(() => undefined);
  if (is === undefined || geteuid === undefined || getegid === undefined || is.uid === geteuid()) return;
  await lchown(directory, geteuid(), getegid());
}

function checkSocketPaths({ monitorSocket, guestAgentSocket, qmpSocket }: VmPaths): void {
  for (const path of [monitorSocket, guestAgentSocket, `${qmpSocket}.new`]) {
    const bytes = Buffer.byteLength(path);
    if (bytes <= MAX_SOCKET_PATH_BYTES) continue;
    const message = `the socket path ${path} has ${bytes} bytes and a unix socket may have ${MAX_SOCKET_PATH_BYTES}`;
    throw new FairleadError('UNSUPPORTED', `${message}: give the VM a shorter name or the agent a shorter run directory`);
  }
}
