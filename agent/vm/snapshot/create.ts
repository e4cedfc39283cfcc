/**
 * Making a named snapshot of a VM that runs, or is paused:
 *
 *     draft ─▶ unplug what cannot be saved ─▶ stop ─▶ save devices (and memory) ─▶ copy disks (and RAM) ─▶ go on ─▶ plug back ─▶ hash ─▶ manifest
 *                └──────────────── failed, stalled or cancelled anywhere: go on, plug back, no draft is left ─────────┘
 *
 * Everything up to `plug back` is done in turn with the other commands of the VM, with its guest standing still from `stop` to `go on`: so
 * memory and disks are those of one moment, and a save takes no more than the memory that there is. An agent that dies meanwhile leaves
 * the intent (intent.ts), by which the next one lets the VM go on.
 */
import { join } from 'node:path';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { Params } from '../../../shared/protocol/methods.ts';
import type { SnapshotProgress } from '../../../shared/protocol/snapshot.ts';
import type { VmState } from '../../../shared/protocol/vm.ts';
import { failpoint } from '../../failpoint.ts';
import type { CallOptions, Vms } from '../api.ts';
import { portsOf } from '../argv/slots.ts';
import { Deadline } from '../deadline.ts';
import type { CheckPolicy } from '../devices/attach.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { cancelMigration } from '../migration/cancel-migration.ts';
import { readMigration } from '../migration/migration-status.ts';
import { abiOn } from './abi-here.ts';
import type { Draft, SnapshotCatalogue } from './catalogue.ts';
import { ignoreSharedRam, saveDeviceState } from './device-state.ts';
import { checkFreezable, freezeDisks, freezeRam, sealDisks, sealRam } from './frozen-files.ts';
import { writeIntent } from './intent.ts';
import { type Manifest, STATE } from './manifest.ts';
import { requireNoPull } from './pull-job.ts';
import type { FileOwner } from './ram-file.ts';
import { saveStream } from './stream-state.ts';
import { requireTestedQemu } from './tested-qemu.ts';
import { requireThawed } from './thawed.ts';
import { NOTHING_UNPLUGGED, plugBack, toUnplug, type Unplugged, unplug } from './unplug.ts';

export interface SnapshotTools {
  readonly vms: Vms;
  readonly catalogue: SnapshotCatalogue;
  readonly checkPolicy: CheckPolicy;
  /** Whom QEMU runs as, where not as the agent. */
  readonly owner: FileOwner | undefined;
  /** Instant snapshots also on versions of QEMU on which those were not tested. */
  readonly untestedSuspend?: boolean | undefined;
}

export interface CreateOptions extends CallOptions {
  /** Must not throw. */
  readonly onProgress?: ((progress: SnapshotProgress) => void) | undefined;
}

type CreateParams = Params<'snapshot.create'>;

/** What a guest that stood still left; the hashes of RAM are still to come. */
type Saved = Omit<Manifest, 'ram'> & { readonly ramFiles: readonly ('ram' | 'ram-added')[] };

const SAVABLE: readonly VmState[] = ['running', 'paused'];
/** To let a guest go on as it was, whatever time the caller has left. */
const BACK_TIMEOUT_MS = 60_000;

/** @throws FairleadError as the method says; there is no snapshot then, and the VM is as it was. */
export async function createSnapshot(tools: SnapshotTools, params: CreateParams, options: CreateOptions): Promise<Manifest> {
  const { vm: name, name: snapshot } = params;
  const { timeoutMs = Number.POSITIVE_INFINITY, signal: cancelled } = options;
  using deadline = new Deadline(`making snapshot ${snapshot} of VM ${name}`, { timeoutMs, signal: cancelled });
  const { signal } = deadline;
  tools.vms.get(name);
  await using draft = await tools.catalogue.begin(snapshot);
  const operation = { doing: 'making a snapshot of', inTurn: true, states: SAVABLE };
  const limits = { signal, timeoutMs: deadline.remainingMs };
  const { ramFiles, ...saved } = await tools.vms.operate(name, operation, limits, (vm, inTurn) =>
    new Saving(tools, { params, vm, draft, deadline: inTurn, onProgress: options.onProgress }).run(),
  );
  let savedBytes = 0;
  const onRead = (bytes: number): void => {
    savedBytes += bytes;
    options.onProgress?.({ phase: 'hashing', savedBytes });
  };
  await sealDisks(draft.directory, saved.disks);
  const manifest = { ...saved, ram: await sealRam(draft.directory, ramFiles, signal, onRead) };
  await failpoint('snapshot.sealed');
  signal.throwIfAborted();
  await draft.keep(manifest);
  await failpoint('snapshot.kept');
  return manifest;
}

interface SavingParts {
  readonly params: CreateParams;
  readonly vm: LiveVm;
  readonly draft: Draft;
  readonly deadline: Deadline;
  readonly onProgress: CreateOptions['onProgress'];
}

class Saving {
  readonly #tools: SnapshotTools;
  readonly #parts: SavingParts;
  #stoppedAt: number | undefined;

  constructor(tools: SnapshotTools, parts: SavingParts) {
    this.#tools = tools;
    this.#parts = parts;
  }

  async run(): Promise<Saved> {
    const { vm, draft, params, deadline } = this.#parts;
    const wasRunning = vm.state === 'running';
    await this.#check();
    const unplugged = toUnplug(vm, params);
    await writeIntent(draft.directory, { vm: vm.name, generation: vm.generation, wasRunning, unplugged });
    await failpoint('snapshot.intended');
    let saved: Omit<Saved, 'pausedMs'>;
    try {
      this.#tell('unplugging');
      await unplug(vm, unplugged, deadline);
      await failpoint('snapshot.unplugged');
      await stop(vm, deadline);
      this.#stoppedAt = performance.now();
      await failpoint('snapshot.stopped');
      saved = await this.#save(unplugged);
    } catch (thrown) {
      throw await this.#asItWas(toFairleadError(thrown, 'STORAGE_FAILED'), { wasRunning, unplugged });
    }
    const pausedMs = wasRunning ? Math.round(await this.#goOn()) : 0;
    await failpoint('snapshot.resumed');
    await this.#plugBack(unplugged);
    return { ...saved, pausedMs };
  }

  async #check(): Promise<void> {
    const { vm, params, deadline } = this.#parts;
    await requireThawed(vm, 'saved');
    await checkFreezable(vm);
    if (params.mode === 'instant') {
      requireRamFile(vm);
      requireTestedQemu(vm.name, vm.process.qemuVersion, this.#tools.untestedSuspend === true);
    }
    await requireNoPull(vm, deadline);
    const [{ status }, migration] = await Promise.all([vm.execute('query-status', {}, deadline), readMigration(vm, deadline)]);
    if (status === 'postmigrate') {
      const message = `VM ${vm.name} has not run since it was saved or sent elsewhere, and QEMU does not save it a second time`;
      throw new FairleadError('WRONG_STATE', `${message}: resume it first`, { details: { vm: vm.name, runState: status } });
    }
    if (['setup', 'active', 'device', 'cancelling'].includes(migration.status)) {
      throw new FairleadError('CONFLICT', `VM ${vm.name} is being sent elsewhere: wait for it, or cancel it`);
    }
  }

  async #save(unplugged: Unplugged): Promise<Omit<Saved, 'pausedMs'>> {
    const { vm, draft, params, deadline } = this.#parts;
    const { directory } = draft;
    const { owner, vms } = this.#tools;
    const { mode, clonable, name, stallTimeoutMs } = params;
    await requireMovable(vm, deadline);
    const { spec } = vm;
    const { qemuVersion, argv, accelerator } = vm.process;
    const [machine = ''] = (argv[argv.indexOf('-machine') + 1] ?? '').split(',');
    const facts = { machine, accelerator, ports: portsOf(argv) };
    const abi = await abiOn(vms, spec, facts);

    this.#tell('saving');
    const transfer = { runDir: vm.paths.runDir, limits: deadline, owner };
    const path = join(directory, STATE);
    let state: Manifest['state'];
    if (mode === 'stream') {
      const onProgress = (progress: object): void => this.#tell('saving', progress);
      state = await saveStream(vm, path, { ...transfer, stallTimeoutMs, onProgress });
    } else {
      await ignoreSharedRam(vm, true, deadline);
      state = await saveDeviceState(vm, path, { ...transfer, durable: true });
    }
    await failpoint('snapshot.state-saved');

    this.#tell('copying', { savedBytes: state.bytes });
    const freeze = { directory, owner, signal: deadline.signal };
    const disks = await freezeDisks(spec, freeze);
    const ramFiles = mode === 'instant' ? await freezeRam(vm, freeze) : [];
    await failpoint('snapshot.copied');
    const { uuid: vmUuid } = vms.get(vm.name);
    const createdAt = new Date().toISOString();
    const about = { version: 1, name, vm: vm.name, vmUuid, mode, clonable, createdAt, qemuVersion, facts } as const;
    return { ...about, spec, unplugged, abi, state, disks, ramFiles };
  }

  /** How long the guest has stood still. */
  async #goOn(): Promise<number> {
    const { vm } = this.#parts;
    using deadline = back(vm);
    await vm.execute('cont', {}, deadline);
    return performance.now() - (this.#stoppedAt ?? performance.now());
  }

  async #letGo(): Promise<void> {
    const { vm } = this.#parts;
    using deadline = back(vm);
    await cancelMigration(vm, deadline);
  }

  async #plugBack(unplugged: Unplugged): Promise<void> {
    if (unplugged === NOTHING_UNPLUGGED) return;
    this.#tell('plugging');
    const { vm } = this.#parts;
    using deadline = back(vm);
    await plugBack(vm, unplugged, { deadline, checkPolicy: this.#tools.checkPolicy });
  }

  /** The error to tell, once the VM is as it was or cannot be made so. */
  async #asItWas(error: FairleadError, before: { wasRunning: boolean; unplugged: Unplugged }): Promise<FairleadError> {
    const { vm } = this.#parts;
    if (vm.signal.aborted) return error;
    try {
      if (this.#stoppedAt !== undefined) await this.#letGo();
      if (before.wasRunning && this.#stoppedAt !== undefined) await this.#goOn();
      await this.#plugBack(before.unplugged);
      return error;
    } catch (second) {
      const message = `${error.message}; and the VM could not be made as it was: ${toFairleadError(second).message}`;
      return new FairleadError(error.code, message, { details: error.details, cause: error });
    }
  }

  #tell(phase: SnapshotProgress['phase'], progress: Partial<SnapshotProgress> = {}): void {
    this.#parts.onProgress?.({ savedBytes: 0, ...progress, phase });
  }
}

/** As a pause does it. */
async function stop(vm: LiveVm, limits: CommandLimits): Promise<void> {
  if (vm.state !== 'running') return;
  vm.device?.guestChanged('paused');
  await vm.device?.settle();
  await vm.execute('stop', {}, limits);
}

function back(vm: LiveVm): Deadline {
  return new Deadline(`letting VM ${vm.name} go on`, { timeoutMs: BACK_TIMEOUT_MS, signal: vm.signal });
}

async function requireMovable(vm: LiveVm, limits: CommandLimits): Promise<void> {
  const { blockedBy } = await readMigration(vm, limits);
  if (blockedBy.length === 0) return;
  throw new FairleadError('UNSUPPORTED', `VM ${vm.name} cannot be saved, says its QEMU: ${blockedBy.join('; ')}`, {
    details: { vm: vm.name, blockedBy },
  });
}

/** RAM that only this process has cannot be left out of what is saved. */
function requireRamFile({ name, process: { argv } }: LiveVm): void {
  const ram = argv.find((argument) => argument.startsWith('{') && argument.includes('"id":"ram0"')) ?? '';
  if (ram.includes('"memory-backend-file"') && ram.includes('"share":true')) return;
  const why = ram.includes('"memory-backend-file"') ? 'is a clone that shares it' : 'was started with memory.backing anonymous';
  const message = `VM ${name} cannot have an instant snapshot: its RAM is in no file of its own (it ${why})`;
  throw new FairleadError('UNSUPPORTED', `${message}; take mode stream`, { details: { vm: name } });
}
