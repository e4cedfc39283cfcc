/**
 * The manifest of a named snapshot: what was saved, of which machine, and by what its files are known again. It is written last and
 * atomically, so a directory without one holds no snapshot, and it is checked with what it names before a QEMU sees any of it.
 *
 *     SNAPSHOTS/NAME/manifest.json   this
 *     SNAPSHOTS/NAME/state           the migration stream: devices and memory (`stream`), or devices alone (`instant`)
 *     SNAPSHOTS/NAME/ram, ram-added  frozen copies of the VM's RAM files (`instant`)
 *     SNAPSHOTS/NAME/ID.disk         a frozen copy of each disk that the guest could write to
 */
import { lstat, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { Count, Name, Timestamp } from '../../../shared/protocol/common.ts';
import { parseWith } from '../../../shared/protocol/parse-with.ts';
import { SnapshotMode } from '../../../shared/protocol/snapshot.ts';
import { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { Network } from '../../../shared/protocol/vm-spec-devices.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import { GuestAbi } from './guest-abi.ts';

/** A file that must not have been replaced, cut or written to since. */
const FileIdentity = v.strictObject({ bytes: Count, inode: v.string(), mtimeNs: v.string() });
export type FileIdentity = v.InferOutput<typeof FileIdentity>;

const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const StreamFile = v.strictObject({ bytes: Count, sha256: Sha256 });
const RamFile = v.strictObject({ file: v.picklist(['ram', 'ram-added']), sha256: Sha256, identity: FileIdentity });

const SavedDisk = v.strictObject({
  id: v.string(),
  format: v.picklist(['raw', 'qcow2']),
  /** In the snapshot's directory; without one the guest could not write to it, and it is where it was. */
  file: v.optional(v.string()),
  identity: FileIdentity,
});
export type SavedDisk = v.InferOutput<typeof SavedDisk>;

export const Manifest = v.strictObject({
  version: v.literal(1),
  name: Name,
  vm: Name,
  vmUuid: v.string(),
  mode: SnapshotMode,
  clonable: v.boolean(),
  createdAt: Timestamp,
  qemuVersion: v.string(),
  /** Settled at the start of the VM and not by its spec. */
  facts: v.strictObject({ machine: v.string(), accelerator: v.picklist(['kvm', 'tcg']), ports: Count }),
  /** Of the VM as its guest was saved: without what had been taken out of it for that. */
  spec: VmSpec,
  /** What had been taken out, and is put back when the guest goes on. */
  unplugged: v.strictObject({
    networks: v.array(Network),
    vsock: v.optional(v.strictObject({ slot: Count, readyPort: v.optional(Count) })),
  }),
  abi: GuestAbi,
  state: StreamFile,
  ram: v.array(RamFile),
  disks: v.array(SavedDisk),
  pausedMs: Count,
});
export type Manifest = v.InferOutput<typeof Manifest>;

export const MANIFEST = 'manifest.json';
export const STATE = 'state';

export async function writeManifest(directory: string, manifest: Manifest): Promise<void> {
  await writeFileAtomic(join(directory, MANIFEST), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

/**
 * @throws FairleadError NOT_FOUND where there is no snapshot, PERMISSION_DENIED for a directory that others can look into or change,
 * STORAGE_FAILED for a manifest that is not one of this name.
 */
export async function readManifest(directory: string, name: string): Promise<Manifest> {
  await requirePrivate(directory, `snapshot ${name}`);
  let text: string;
  try {
    text = await readFile(join(directory, MANIFEST), 'utf8');
  } catch (error) {
    if (isMissing(error)) throw noSnapshot(name);
    throw toFairleadError(error, 'STORAGE_FAILED');
  }
  try {
    const manifest = parseWith(Manifest, JSON.parse(text), 'manifest');
    if (manifest.name === name) return manifest;
    throw new Error(`it is that of snapshot ${manifest.name}`);
  } catch (error) {
    throw new FairleadError('STORAGE_FAILED', `the manifest of snapshot ${name} is broken: ${toFairleadError(error).message}`, {
      details: { snapshot: name, path: join(directory, MANIFEST) },
      cause: error,
    });
  }
}

export async function isManifestMissing(directory: string): Promise<boolean> {
  return lstat(join(directory, MANIFEST)).then(() => false, isMissing);
}

/** Who can write there owns every guest that is made from it, and who can read there has its secrets. */
export async function requirePrivate(directory: string, what: string): Promise<void> {
  const is = await lstat(directory).catch((error: unknown) => {
    throw isMissing(error) ? noSnapshot(what.replace(/^snapshot /, '')) : toFairleadError(error, 'STORAGE_FAILED');
  });
  const wrong = !is.isDirectory()
    ? 'is no directory'
    : is.uid !== process.geteuid?.()
      ? `belongs to user ${is.uid}`
      : (is.mode & 0o066) !== 0
        ? `has mode ${(is.mode & 0o777).toString(8)}, which lets others in`
        : undefined;
  if (wrong === undefined) return;
  throw new FairleadError(
    'PERMISSION_DENIED',
    `${what} cannot be used: ${directory} ${wrong}; it has to be the agent's own, mode 700`,
    { details: { path: directory } },
  );
}

export async function identityOf(path: string): Promise<FileIdentity> {
  const { size, ino, mtimeNs } = await stat(path, { bigint: true });
  return { bytes: Number(size), inode: String(ino), mtimeNs: String(mtimeNs) };
}

/** A clause that says how a file differs from what was saved; undefined where it does not. */
export async function whyChanged(path: string, saved: FileIdentity): Promise<string | undefined> {
  const is = await identityOf(path).catch(() => undefined);
  if (is === undefined) return `${path} is gone, or cannot be read`;
  if (is.bytes !== saved.bytes) return `${path} has ${is.bytes} bytes and had ${saved.bytes}`;
  if (is.inode !== saved.inode) return `${path} is another file than the one that was saved`;
  return is.mtimeNs === saved.mtimeNs ? undefined : `${path} has been written to since`;
}

export function noSnapshot(name: string): FairleadError {
  return new FairleadError('NOT_FOUND', `this host has no snapshot ${name}`, { details: { snapshot: name } });
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
