/**
 * The files that go with a saved guest, as they were when it was saved: a copy of each disk that it could write to, and of its RAM where
 * that is in files. They are copied while the guest stands still and QEMU has written everything out, and nobody writes to the copies:
 * clones and restored guests put an overlay over a disk, and map the RAM copy on write or copy it once more.
 */
import { chmod, chown, open } from 'node:fs/promises';
import { join } from 'node:path';
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { DataDisk } from '../../../shared/protocol/vm-spec-devices.ts';
import { blockDevicesAmong } from '../host/host-devices.ts';
import type { LiveVm } from '../live-vm.ts';
import { filesOfQcow2 } from '../qcow2-files.ts';
import { frozenCopy, hashContent } from './content.ts';
import { identityOf, type Manifest, type SavedDisk } from './manifest.ts';
import { type FileOwner, ramFilesOf } from './ram-file.ts';

/** The variables of a guest's firmware, which it writes to as to a disk. */
export const FIRMWARE_VARS = 'firmware-vars';

interface Freeze {
  readonly directory: string;
  readonly owner: FileOwner | undefined;
  readonly signal: AbortSignal;
}

/** Before anything is done. @throws FairleadError UNSUPPORTED for a disk of which no copy can be made. */
export async function checkFreezable({ name, spec }: LiveVm): Promise<void> {
  const writable = writableDisks(spec);
  const [device] = await blockDevicesAmong(writable.map(({ path }) => path));
  if (device !== undefined) {
    const message = `VM ${name} cannot be saved: its disk ${device} is a block device, and no copy is made of those`;
    throw new FairleadError('UNSUPPORTED', message, { details: { vm: name, path: device } });
  }
  if (spec.pciDevices.length === 0) return;
  throw new FairleadError('UNSUPPORTED', `VM ${name} cannot be saved: devices of the host are passed through to it`);
}

export async function freezeDisks(spec: VmSpec, freeze: Freeze): Promise<SavedDisk[]> {
  const saved: SavedDisk[] = [];
  for (const disk of spec.disks) {
    if (disk.path === undefined) continue;
    const { id, format, path } = disk;
    if (disk.media === 'cdrom' || disk.readOnly) saved.push({ id, format, identity: await identityOf(path) });
    else saved.push(await freezeDisk({ id, format, path }, freeze));
  }
  const vars = spec.boot.firmware?.vars;
  if (vars !== undefined) saved.push(await freezeDisk({ id: FIRMWARE_VARS, format: 'raw', path: vars }, freeze));
  return saved;
}

/** Not hashed yet: that is for when the guest goes on. */
export async function freezeRam({ spec, paths }: LiveVm, { directory, owner, signal }: Freeze): Promise<('ram' | 'ram-added')[]> {
  const names: ('ram' | 'ram-added')[] = [];
  for (const { path } of ramFilesOf(spec, paths)) {
    const file = path === paths.ramFile ? 'ram' : 'ram-added';
    const copy = join(directory, file);
    await frozenCopy(path, copy, signal);
    // QEMU opens RAM for writing, also where it maps it copy on write.
    if (owner !== undefined) await chown(copy, owner.uid, owner.gid);
    names.push(file);
  }
  return names;
}

/** Durable, and known again by its content. */
export async function sealRam(
  directory: string,
  names: readonly ('ram' | 'ram-added')[],
  signal: AbortSignal,
  onRead: (bytes: number) => void,
): Promise<Manifest['ram']> {
  const sealed: Manifest['ram'] = [];
  for (const file of names) {
    const path = join(directory, file);
    await sync(path);
    const { sha256 } = await hashContent(path, signal, onRead);
    sealed.push({ file, sha256, identity: await identityOf(path) });
  }
  return sealed;
}

export async function sealDisks(directory: string, disks: readonly SavedDisk[]): Promise<void> {
  for (const { file } of disks) if (file !== undefined) await sync(join(directory, file));
}

async function freezeDisk(
  { id, format, path }: Pick<DataDisk, 'id' | 'format' | 'path'>,
  { directory, owner, signal }: Freeze,
): Promise<SavedDisk> {
  const file = `${id}.disk`;
  const copy = join(directory, file);
  await frozenCopy(path, copy, signal);
  await requireSameBacking(id, format, path, copy);
  if (owner !== undefined) await chown(copy, owner.uid, owner.gid);
  await chmod(copy, 0o400);
  return { id, format, file, identity: await identityOf(copy) };
}

/** A name that is relative to the image leads elsewhere from the copy. */
async function requireSameBacking(id: string, format: DataDisk['format'], path: string, copy: string): Promise<void> {
  if (format !== 'qcow2') return;
  const [was, is] = await Promise.all([filesOfQcow2(path), filesOfQcow2(copy)]);
  if (was?.backing?.path === is?.backing?.path && was?.data === undefined) return;
  const why = was?.data === undefined ? 'names its backing file relative to itself' : 'keeps its data in another file';
  throw new FairleadError('UNSUPPORTED', `disk ${id} cannot be copied: ${path} ${why}`, { details: { id, path } });
}

function writableDisks({ disks }: VmSpec): DataDisk[] {
  return disks.flatMap((disk) => (disk.media === 'disk' && !disk.readOnly ? [disk] : []));
}

async function sync(path: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.sync();
}
