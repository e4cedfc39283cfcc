/**
 * What a VM is restored from, made ready for its supervisor: the spec to launch, with disks of its own on top of those that were frozen,
 * and the start from the saved guest (incoming.ts).
 *
 *     checked (manifest, files, guest ABI) ─▶ overlays made ─▶ launch: RAM and devices loaded ─▶ the spec is the VM's ─▶ it runs
 *                                               └── failed anywhere: overlays removed, the VM is as it was and can be restored again
 */
import { chmod, chown, copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Disk } from '../../../shared/protocol/vm-spec-devices.ts';
import { failpoint } from '../../failpoint.ts';
import type { Vms } from '../api.ts';
import { openPassage } from '../confinement/passage.ts';
import type { VmLife } from '../life.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { VmPaths } from '../store.ts';
import { abiOn } from './abi-here.ts';
import { copyInto } from './content.ts';
import { ignoreSharedRam, loadDeviceState, migratingVm, readDeviceState } from './device-state.ts';
import { FIRMWARE_VARS } from './frozen-files.ts';
import { differencesOf } from './guest-abi.ts';
import type { Incoming, Restoration } from './incoming.ts';
import { type Manifest, type SavedDisk, STATE, whyChanged } from './manifest.ts';
import { createOverlay } from './overlay.ts';
import { type FileOwner, requireFillable } from './ram-file.ts';
import { loadStream } from './stream-state.ts';

export interface RestorationRequest {
  readonly manifest: Manifest;
  readonly directory: string;
  readonly name: string;
  readonly after: Incoming['after'];
  /** Whether RAM stays the snapshot's until it is written to. */
  readonly sharesRam: boolean;
  readonly owner: FileOwner | undefined;
}

/** Where the disks are that the agent makes for a VM; they go with it. */
export function ownDisksOf(dir: string): string {
  return join(dir, 'disks');
}

/** What can be told before anything is made. @throws FairleadError WRONG_STATE with what is not as it was saved, UNSUPPORTED with what differs here. */
export async function checkRestorable(vms: Vms, manifest: Manifest, directory: string): Promise<void> {
  const problems = await changedFiles(manifest, directory);
  if (problems.length > 0) {
    const message = `snapshot ${manifest.name} cannot be used: ${problems.join('; ')}`;
    throw new FairleadError('WRONG_STATE', message, { details: { snapshot: manifest.name, problems } });
  }
  const differences = differencesOf(manifest.abi, await abiOn(vms, manifest.spec, manifest.facts));
  if (differences.length === 0) return;
  const message = `snapshot ${manifest.name} does not fit this host: ${differences.join('; ')}`;
  throw new FairleadError('UNSUPPORTED', `${message}; its guest would not find the machine that it was saved in`, {
    details: { snapshot: manifest.name, differences },
  });
}

/** By size, inode and time of the last write; what is in them is for `snapshot.verify`. */
export async function changedFiles({ ram, disks, spec }: Manifest, directory: string): Promise<string[]> {
  const files = [
    ...ram.map(({ file, identity }) => ({ path: join(directory, file), identity })),
    ...disks.map((disk) => ({ path: pathOf(disk, spec, directory), identity: disk.identity })),
  ];
  const why = await Promise.all(files.map(({ path, identity }) => whyChanged(path, identity)));
  return why.filter((problem) => problem !== undefined);
}

/** @throws FairleadError what keeps overlays from being made, and WRONG_STATE for a device state that is not what was saved. */
export async function restorationOf(request: RestorationRequest, paths: VmPaths): Promise<Restoration> {
  const { manifest, directory, sharesRam, after } = request;
  // Checked whole before a QEMU gets any of it; a stream is too long for that, and checked on its way.
  const state =
    manifest.mode === 'instant' ? await readDeviceState(manifest.vm, join(directory, STATE), manifest.state) : undefined;
  if (state !== undefined && !sharesRam) await requireFillable(request.name, paths);
  const made: string[] = [];
  const undo = async (): Promise<void> => {
    await Promise.allSettled(made.map((path) => rm(path, { force: true })));
  };
  let spec: VmSpec;
  try {
    spec = await withOwnDisks(request, paths, made);
  } catch (error) {
    await undo();
    throw error;
  }
  const [ram] = manifest.ram;
  return {
    spec,
    incoming: {
      ram: sharesRam && ram !== undefined ? { kind: 'private', file: join(directory, ram.file) } : { kind: 'fresh' },
      facts: manifest.facts,
      after,
      async load(session, limits) {
        const vm = migratingVm(session);
        if (state === undefined) {
          await loadStream(session, join(directory, STATE), manifest.state, limits);
        } else {
          if (!sharesRam) await fillRam(manifest, directory, paths, limits);
          await ignoreSharedRam(vm, true, limits);
          await loadDeviceState(session, state, limits);
          await ignoreSharedRam(vm, false, limits);
        }
        await failpoint('restore.loaded');
      },
    },
    undo,
    done: () => removeOthers(ownDisksOf(paths.dir), made),
  };
}

/** Each file is in `made` before it is there. */
async function withOwnDisks(request: RestorationRequest, { dir }: VmPaths, made: string[]): Promise<VmSpec> {
  const { manifest, directory, name, owner } = request;
  const { spec } = manifest;
  const own = ownDisksOf(dir);
  await mkdir(own, { recursive: true, mode: 0o700 });
  if (owner !== undefined) await openPassage(own, owner);
  // Never the name of one that is there: the VM goes on with that if this comes to nothing.
  const stamp = Date.now().toString(36);
  const paths = new Map<string, string>();
  for (const { id, file, format } of manifest.disks) {
    if (file === undefined) continue;
    const frozen = join(directory, file);
    const path = join(own, `${id}-${stamp}.${id === FIRMWARE_VARS ? 'raw' : 'qcow2'}`);
    made.push(path);
    if (id === FIRMWARE_VARS) await copyVars(frozen, path, owner);
    else await createOverlay(path, { path: frozen, format }, owner);
    paths.set(id, path);
  }
  const onOverlay = (disk: Disk): Disk => {
    const path = paths.get(disk.id);
    return path === undefined ? disk : { ...disk, path, format: 'qcow2' };
  };
  const { firmware } = spec.boot;
  const vars = paths.get(FIRMWARE_VARS);
  const boot = firmware === undefined || vars === undefined ? spec.boot : { ...spec.boot, firmware: { ...firmware, vars } };
  return { ...spec, name, boot, disks: spec.disks.map(onOverlay) };
}

async function copyVars(from: string, to: string, owner: FileOwner | undefined): Promise<void> {
  await copyFile(from, to);
  await chmod(to, 0o600);
  if (owner !== undefined) await chown(to, owner.uid, owner.gid);
}

async function fillRam({ ram }: Manifest, directory: string, paths: VmPaths, { signal }: CommandLimits): Promise<void> {
  for (const { file } of ram) await copyInto(join(directory, file), file === 'ram' ? paths.ramFile : paths.addedRamFile, signal);
}

/** The start of a VM from it, or all as it was before. */
export async function restoring(
  life: Pick<VmLife, 'record' | 'save'>,
  restoration: Restoration,
  start: () => Promise<void>,
): Promise<void> {
  const { spec: before } = life.record;
  try {
    await start();
  } catch (error) {
    if (life.record.spec !== before) await life.save({ spec: before });
    await restoration.undo();
    throw error;
  }
  await restoration.done();
}

/** The spec becomes the VM's once its guest is loaded, and before that could run. */
export function recording({ incoming }: Restoration, saveSpec: () => Promise<void>): Incoming {
  return {
    ...incoming,
    async load(session, limits) {
      await incoming.load(session, limits);
      await saveSpec();
      await failpoint('restore.spec-recorded');
    },
  };
}

function pathOf({ id, file }: SavedDisk, spec: VmSpec, directory: string): string {
  if (file !== undefined) return join(directory, file);
  return spec.disks.find((disk) => disk.id === id)?.path ?? '';
}

async function removeOthers(directory: string, kept: readonly string[]): Promise<void> {
  const names = kept.filter((path) => dirname(path) === directory).map((path) => basename(path));
  const there = await readdir(directory).catch(() => []);
  await Promise.allSettled(
    there.filter((name) => !names.includes(name)).map((name) => rm(join(directory, name), { force: true })),
  );
}
