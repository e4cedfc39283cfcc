/** The named snapshots of this host: what the methods on them do. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import { pageFrom } from '../../../shared/protocol/paging.ts';
import type { SnapshotInfo } from '../../../shared/protocol/snapshot.ts';
import type { VmInfo } from '../../../shared/protocol/vm.ts';
import type { CallOptions, Logger, VmObserver, Vms } from '../api.ts';
import { Deadline, orAborted } from '../deadline.ts';
import type { CheckPolicy } from '../devices/attach.ts';
import { SnapshotCatalogue } from './catalogue.ts';
import { type CloneTools, cloneNames, cloneSnapshot, plugInto } from './clone.ts';
import { type CloneIntent, readCloneIntents, undoClones } from './clone-intent.ts';
import { hashContent, hashStream } from './content.ts';
import { type CreateOptions, createSnapshot } from './create.ts';
import type { DiskBaseOptions } from './disk-base.ts';
import type { Image } from './image-chain.ts';
import { type Manifest, STATE, whyChanged } from './manifest.ts';
import { undoUnfinished } from './recover.ts';
import { changedFiles, checkRestorable, restorationOf } from './restoration.ts';
import { type RestoreIntent, RestoreLog, readRestoreIntents } from './restore-intent.ts';
import { usersOf } from './users.ts';

export interface SnapshotsOptions {
  readonly vms: Vms;
  /** Where they are kept: mode 0700, the agent's own. */
  readonly directory: string;
  readonly checkPolicy: CheckPolicy;
  readonly vsockKind: CloneTools['vsockKind'];
  readonly seedGuest: CloneTools['seedGuest'];
  readonly setClock: CloneTools['setClock'];
  readonly nameGuest: CloneTools['nameGuest'];
  readonly untestedSuspend?: boolean | undefined;
  readonly logger: Logger;
  readonly observer?: Pick<VmObserver, 'onSnapshot'> | undefined;
}

function beingRemoved(snapshot: string): FairleadError {
  return new FairleadError('NOT_FOUND', `snapshot ${snapshot} is being removed`, { details: { snapshot } });
}

/** stat(2) counts in these. */
const STAT_BLOCK = 512;

export class Snapshots {
  readonly #tools: CloneTools;
  readonly #catalogue: SnapshotCatalogue;
  readonly #logger: Logger;
  readonly #observer: SnapshotsOptions['observer'];
  /** Clones of each snapshot that an earlier agent had begun to make. */
  readonly #undone = new Map<string, readonly CloneIntent[]>();
  /** Commands wait until what an earlier agent left half made has been put right. Never rejects. */
  readonly #ready: Promise<void>;
  /** The last in the queue of those that verify: it takes the disk and a processor, and anybody may ask for it. Never rejects. */
  #verified: Promise<void> = Promise.resolve();
  /** The one that is being verified: it gives way to its removal, or whoever may only look could keep it for ever. */
  #verifying: { readonly snapshot: string; readonly stop: AbortController } | undefined;
  readonly #removing = new Set<string>();

  constructor({ directory, logger, observer, ...tools }: SnapshotsOptions) {
    const owner = tools.vms.fileOwner;
    this.#catalogue = new SnapshotCatalogue({ directory, owner });
    this.#tools = { ...tools, catalogue: this.#catalogue, owner };
    this.#logger = logger;
    this.#observer = observer;
    this.#ready = this.#recover();
  }

  async create(params: Params<'snapshot.create'>, options: CreateOptions): Promise<SnapshotInfo> {
    await this.#ready;
    const startedAt = performance.now();
    const made = await this.#infoOf(await createSnapshot(this.#tools, params, options), []);
    const { mode, storedBytes } = made;
    this.#observer?.onSnapshot?.({ mode, storedBytes, durationMs: performance.now() - startedAt });
    return made;
  }

  async list({ vm, ...page }: Params<'snapshot.list'>): Promise<Result<'snapshot.list'>> {
    const { manifests, broken } = await this.#catalogue.list();
    const users = await usersOf(this.#tools.vms, this.#catalogue, manifests);
    const wanted = manifests.filter((manifest) => vm === undefined || manifest.vm === vm);
    const infos = await Promise.all(wanted.map((manifest) => this.#infoOf(manifest, users.get(manifest.name) ?? [])));
    const { rows, next } = pageFrom(infos, ({ name }) => name, page);
    return { snapshots: [...rows], next, broken };
  }

  /** Undefined where there is none; waits until what was half made is undone. */
  async find(name: string): Promise<SnapshotInfo | undefined> {
    await this.#ready;
    const { manifests } = await this.#catalogue.list();
    const manifest = manifests.find((one) => one.name === name);
    return manifest && this.#infoOf(manifest, []);
  }

  async show({ snapshot }: Params<'snapshot.show'>): Promise<Result<'snapshot.show'>> {
    const manifest = await this.#catalogue.read(snapshot);
    const { manifests } = await this.#catalogue.list();
    const users = await usersOf(this.#tools.vms, this.#catalogue, manifests);
    const disks = manifest.disks.map(({ id, file }) => (file === undefined ? `${id}: where it was` : `${id}: ${file}`));
    return { snapshot: await this.#infoOf(manifest, users.get(snapshot) ?? []), abi: manifest.abi, disks };
  }

  /** Reads all that was saved, one snapshot at a time; disks are known by size, inode and time, since to read them would take hours. */
  async verify({ snapshot }: Params<'snapshot.verify'>, options: CallOptions): Promise<Result<'snapshot.verify'>> {
    using deadline = new Deadline(`verifying snapshot ${snapshot}`, options);
    const before = this.#verified;
    const mine = Promise.withResolvers<void>();
    this.#verified = before.then(() => mine.promise);
    try {
      await orAborted(before, deadline.signal);
      return await this.#verifyNow(snapshot, deadline);
    } finally {
      mine.resolve();
    }
  }

  async #verifyNow(snapshot: string, deadline: Deadline): Promise<Result<'snapshot.verify'>> {
    const manifest = await this.#catalogue.read(snapshot);
    if (this.#removing.has(snapshot)) throw beingRemoved(snapshot);
    const stop = new AbortController();
    this.#verifying = { snapshot, stop };
    try {
      return await this.#compare(manifest, AbortSignal.any([deadline.signal, stop.signal]));
    } finally {
      this.#verifying = undefined;
    }
  }

  async #compare(manifest: Manifest, signal: AbortSignal): Promise<Result<'snapshot.verify'>> {
    const { name: snapshot } = manifest;
    const directory = this.#catalogue.directoryOf(snapshot);
    const problems = await changedFiles(manifest, directory);
    let readBytes = 0;
    const check = async (file: string, saved: string, hash: typeof hashContent): Promise<void> => {
      try {
        const { sha256 } = await hash(join(directory, file), signal, (bytes) => {
          readBytes += bytes;
        });
        if (sha256 !== saved) problems.push(`${join(directory, file)} is not what was saved: its SHA-256 differs`);
      } catch (error) {
        signal.throwIfAborted();
        problems.push(`${join(directory, file)} cannot be read: ${toFairleadError(error).message}`);
      }
    };
    await check(STATE, manifest.state.sha256, hashStream);
    for (const { file, sha256 } of manifest.ram) await check(file, sha256, hashContent);
    return { ok: problems.length === 0, problems, readBytes };
  }

  /** @throws FairleadError CONFLICT while anything stands on it, or is being made from it. */
  async remove({ snapshot }: Params<'snapshot.remove'>): Promise<Result<'snapshot.remove'>> {
    await this.#ready;
    return this.#catalogue.whileUnheld(snapshot, () => this.#removeUnused(snapshot));
  }

  async #removeUnused(snapshot: string): Promise<Result<'snapshot.remove'>> {
    const { manifests } = await this.#catalogue.list();
    const users = (await usersOf(this.#tools.vms, this.#catalogue, manifests)).get(snapshot) ?? [];
    if (users.length > 0) {
      const message = `snapshot ${snapshot} cannot be removed: ${users.join(', ')} would lose disks or memory; delete those first`;
      throw new FairleadError('CONFLICT', message, { details: { snapshot, usedBy: users } });
    }
    this.#removing.add(snapshot);
    try {
      if (this.#verifying?.snapshot === snapshot) this.#verifying.stop.abort(beingRemoved(snapshot));
      return { removed: await this.#catalogue.remove(snapshot) };
    } finally {
      this.#removing.delete(snapshot);
    }
  }

  async prune({ vm, keep }: Params<'snapshot.prune'>): Promise<Result<'snapshot.prune'>> {
    const { manifests } = await this.#catalogue.list();
    const wanted = manifests.filter((manifest) => vm === undefined || manifest.vm === vm);
    const removed: string[] = [];
    const inUse: string[] = [];
    for (const own of Map.groupBy(wanted, (manifest) => manifest.vm).values()) {
      const newestFirst = own.toSorted((a, b) => b.createdAt.localeCompare(a.createdAt));
      for (const { name } of newestFirst.slice(keep)) {
        try {
          await this.remove({ snapshot: name });
          removed.push(name);
        } catch (error) {
          if (toFairleadError(error).code !== 'CONFLICT') throw error;
          inUse.push(name);
        }
      }
    }
    return { removed, inUse };
  }

  async restore({ snapshot, state }: Params<'vm.restore'>, options: CallOptions): Promise<VmInfo> {
    await this.#ready;
    const { vms, owner, checkPolicy } = this.#tools;
    using _ = await this.#catalogue.hold(snapshot);
    const manifest = await this.#catalogue.read(snapshot);
    using deadline = new Deadline(`restoring snapshot ${snapshot}`, options);
    const directory = this.#catalogue.directoryOf(snapshot);
    await checkRestorable(vms, manifest, directory);
    const { vm: name, vmUuid, unplugged } = manifest;
    const there = vms.list().find((vm) => vm.name === name);
    let log: RestoreLog | undefined;
    if (there === undefined) {
      log = await this.#made(manifest, directory, deadline.signal);
    } else if (there.uuid !== vmUuid) {
      const message = `snapshot ${snapshot} is of another VM ${name} than the one that is there: delete that one first, or clone the snapshot`;
      throw new FairleadError('CONFLICT', message, { details: { snapshot, vm: name } });
    }
    const after = state === 'running' ? 'run' : 'pause';
    // RAM of its own, so that it can be suspended and saved again.
    const request = { manifest, directory, name, after, sharesRam: false, owner } as const;
    const { signal, remainingMs } = deadline;
    try {
      await vms.restore(name, (paths) => restorationOf(request, paths), { signal, timeoutMs: remainingMs });
    } catch (error) {
      if (log !== undefined) await vms.delete(name, { force: true });
      await log?.drop();
      throw error;
    }
    await log?.drop();
    await plugInto(this.#tools, name, unplugged, { signal, checkPolicy });
    return vms.get(name);
  }

  /** A VM that is there no more. Its disks are made when it is restored. */
  async #made({ spec }: Manifest, directory: string, signal: AbortSignal): Promise<RestoreLog> {
    const { vms } = this.#tools;
    const log = await RestoreLog.begin(directory, vms.list());
    let info: VmInfo | undefined;
    try {
      info = await vms.create({ ...spec, disks: [] }, { signal });
      await log.made(info.uuid);
      return log;
    } catch (error) {
      if (info !== undefined) await vms.delete(info.name, { force: true });
      await log.drop();
      throw error;
    }
  }

  /** Of VMs that restores since then had begun to make. */
  async restoresSince(snapshot: string, at: string): Promise<RestoreIntent[]> {
    const intents = await readRestoreIntents(this.#catalogue.directoryOf(snapshot));
    return intents.filter((intent) => intent.at >= at);
  }

  async clone({ snapshot, count, names }: Params<'vm.clone'>, options: CallOptions): Promise<Result<'vm.clone'>> {
    await this.#ready;
    const { vms } = this.#tools;
    using _ = await this.#catalogue.hold(snapshot);
    const manifest = await this.#catalogue.read(snapshot);
    await checkRestorable(vms, manifest, this.#catalogue.directoryOf(snapshot));
    const taken = new Set(vms.list().map(({ name }) => name));
    const wanted = names ?? cloneNames(manifest.vm, count, (name) => taken.has(name));
    if (names !== undefined && new Set(names).size !== names.length) {
      throw new FairleadError('INVALID_PARAMS', 'params.names: each clone needs a name of its own');
    }
    return cloneSnapshot(this.#tools, { manifest, names: wanted }, options);
  }

  /** Until its image stands on nothing; what that had below it can then be removed. */
  async flatten(params: Params<'disk.flatten'>, options: DiskBaseOptions): Promise<Result<'disk.flatten'>> {
    const { changeBase } = await import('./disk-base.ts');
    return { changed: await changeBase(this.#tools, params, options) };
  }

  async rebase({ snapshot, ...request }: Params<'disk.rebase'>, options: DiskBaseOptions): Promise<Result<'disk.rebase'>> {
    await this.#ready;
    // It stays while it is put below something.
    using _ = await this.#catalogue.hold(snapshot);
    const { changeBase } = await import('./disk-base.ts');
    return { changed: await changeBase(this.#tools, { ...request, onto: await this.diskOf(snapshot, request.id) }, options) };
  }

  /** A frozen disk. @throws FairleadError NOT_FOUND, WRONG_STATE for one that is not as it was saved. */
  async diskOf(snapshot: string, id: string): Promise<Image> {
    const { disks } = await this.#catalogue.read(snapshot);
    const disk = disks.find((candidate) => candidate.id === id);
    if (disk?.file === undefined) {
      const there = disks.flatMap((candidate) => (candidate.file === undefined ? [] : [candidate.id])).join(', ');
      const message = `snapshot ${snapshot} has no disk ${id}: it has ${there || 'none'}`;
      throw new FairleadError('NOT_FOUND', message, { details: { snapshot, id } });
    }
    const path = join(this.#catalogue.directoryOf(snapshot), disk.file);
    const changed = await whyChanged(path, disk.identity);
    if (changed === undefined) return { path, format: disk.format };
    throw new FairleadError('WRONG_STATE', `snapshot ${snapshot} cannot be used: ${changed}`, { details: { snapshot } });
  }

  /** What was begun to be made from a snapshot since then; what an agent that died did not finish is there no more, and has no answer. */
  async clonesSince(snapshot: string, at: string): Promise<CloneIntent[]> {
    await this.#ready;
    const finished = await readCloneIntents(this.#catalogue.directoryOf(snapshot));
    return [...finished, ...(this.#undone.get(snapshot) ?? [])].filter((intent) => intent.at >= at);
  }

  async #infoOf(manifest: Manifest, usedBy: readonly string[]): Promise<SnapshotInfo> {
    const { name, vm, mode, createdAt, clonable, qemuVersion, facts, spec, pausedMs, ram, disks } = manifest;
    const directory = this.#catalogue.directoryOf(name);
    const files = [STATE, ...ram.map(({ file }) => file), ...disks.flatMap(({ file }) => file ?? [])];
    // One that is gone is told by what looks at it.
    const blocks = await Promise.all(files.map((file) => stat(join(directory, file)).catch(() => ({ blocks: 0 }))));
    const storedBytes = blocks.reduce((sum, is) => sum + is.blocks * STAT_BLOCK, 0);
    const about = { name, vm, mode, createdAt, clonable, qemuVersion, machine: facts.machine, pausedMs };
    return { ...about, memoryBytes: spec.memory.bytes, storedBytes, usedBy: [...usedBy] };
  }

  async #recover(): Promise<void> {
    try {
      for (const name of await this.#catalogue.unfinished()) {
        const isUndone = await undoUnfinished(this.#tools, this.#catalogue.directoryOf(name), this.#logger);
        if (isUndone) await this.#catalogue.remove(name);
      }
      for (const { name } of (await this.#catalogue.list()).manifests) {
        this.#undone.set(name, await undoClones(this.#tools.vms, this.#catalogue.directoryOf(name), this.#logger));
      }
    } catch (error) {
      this.#logger.error({ error: toFairleadError(error).message }, 'the snapshots of this host cannot be used');
    }
  }
}
