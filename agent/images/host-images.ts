/**
 * The images of this host: fetched when a spec names them, given to VMs as files, removed when nothing uses them.
 *
 *     STATE/images/sha256/DIGITS      as the hub has it, read only: kernels, initial RAM disks, disks that are only read
 *     STATE/images/overlays/VM/…      what a VM writes onto a disk that is an image: a qcow2 image of its own above it
 *
 * A VM's spec keeps the path, in which the digest stands: what a VM was made of is told for as long as there is the VM.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FairleadError } from '../../shared/errors.ts';
import { BlobFiles } from '../../shared/node/blob-files.ts';
import { type Digest, imageOf, isDigest } from '../../shared/protocol/image-ref.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { Disk } from '../../shared/protocol/vm-spec-devices.ts';
import type { Vms } from '../vm/api.ts';
import { openPassage } from '../vm/confinement/passage.ts';
import { createOverlay } from '../vm/snapshot/overlay.ts';
import { overlaysDirectory, overlaysOf } from './overlays.ts';
import { Puller, type PullerOptions, type PullOptions } from './puller.ts';
import { usedImages } from './used-images.ts';

export interface HostImagesOptions extends Omit<PullerOptions, 'files'> {
  readonly vms: Vms;
  readonly stateDir: string;
  /** Where records may name images, besides the specs of VMs. */
  readonly recordDirectories: readonly string[];
}

function imagesDirectory(stateDir: string): string {
  return join(stateDir, 'images');
}

export class HostImages implements AsyncDisposable {
  readonly #options: HostImagesOptions;
  readonly #files: BlobFiles;
  readonly #puller: Puller;
  /** Being given to VMs that are not made yet, and how often. */
  readonly #pinned = new Map<string, number>();
  /** While unused ones are looked for and removed, nothing new is given out. */
  #collecting: Promise<unknown> = Promise.resolve();

  constructor(options: HostImagesOptions) {
    this.#options = options;
    const directory = imagesDirectory(options.stateDir);
    this.#files = new BlobFiles({ directory, blobMode: options.vms.fileOwner === undefined ? 0o400 : 0o444 });
    this.#puller = new Puller({ ...options, files: this.#files });
  }

  /** Runs `make` with the spec whose images are here as files, which nobody removes meanwhile. */
  async placed<T>(spec: VmSpec, options: PullOptions, make: (spec: VmSpec) => Promise<T>): Promise<T> {
    const images = imagesOf(spec);
    if (images.length === 0) return make(spec);
    for (let last: unknown; last !== this.#collecting; ) {
      last = this.#collecting;
      await last;
    }
    for (const digest of images) this.#pin(digest, 1);
    const overlays: string[] = [];
    try {
      for (const digest of images) await this.#puller.pull(digest, options);
      await this.#letUserPass();
      const disks: Disk[] = [];
      for (const disk of spec.disks) disks.push(await this.#placedDisk(spec.name, disk, overlays));
      return await make({ ...this.#withBoot(spec), disks });
    } catch (error) {
      await Promise.all(overlays.map((path) => rm(path, { force: true })));
      throw error;
    } finally {
      for (const digest of images) this.#pin(digest, -1);
    }
  }

  async pull({ digest }: Params<'blob.pull'>, options: PullOptions): Promise<Result<'blob.pull'>> {
    const { bytes } = await this.#puller.pull(digest, options);
    return { digest, bytes, path: this.#files.pathOf(digest) };
  }

  async list(): Promise<Result<'blob.list'>> {
    const { digests } = await this.#uses();
    const blobs = await this.#files.list();
    return {
      blobs: blobs.map(({ digest, bytes }) => ({ digest, bytes, inUse: digests.has(digest) || this.#pinned.has(digest) })),
    };
  }

  collect({ dryRun }: Params<'blob.collect'>): Promise<Result<'blob.collect'>> {
    const done = this.#collecting.then(() => this.#collect(dryRun));
    this.#collecting = done.catch(() => {});
    return done;
  }

  async #collect(dryRun: boolean): Promise<Result<'blob.collect'>> {
    // Their VMs may be made, and told of, in the middle of the look.
    const pinned = new Set(this.#pinned.keys());
    const uses = await this.#uses();
    if (!dryRun) {
      if (pinned.size === 0) await this.#removeOverlays(uses.names);
      await this.#files.forgetPartials(Date.now());
    }
    const blobs = await this.#files.list();
    const unused = blobs.filter(({ digest }) => !uses.digests.has(digest) && !pinned.has(digest));
    if (!dryRun) for (const { digest } of unused) await this.#files.remove(digest);
    return { digests: unused.map(({ digest }) => digest), bytes: unused.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#puller[Symbol.asyncDispose]();
  }

  #uses() {
    const { vms, recordDirectories } = this.#options;
    return usedImages({ vms, directories: recordDirectories });
  }

  #withBoot(spec: VmSpec): VmSpec {
    const { kernel, initrd } = spec.boot;
    return {
      ...spec,
      boot: {
        ...spec.boot,
        ...(kernel === undefined ? {} : { kernel: this.#fileOf(kernel) }),
        ...(initrd === undefined ? {} : { initrd: this.#fileOf(initrd) }),
      },
    };
  }

  #fileOf(path: string): string {
    const image = imageOf(path);
    return image === undefined ? path : this.#files.pathOf(image);
  }

  async #placedDisk(vm: string, disk: Disk, overlays: string[]): Promise<Disk> {
    if (disk.path === undefined || imageOf(disk.path) === undefined) return disk;
    const blob = this.#fileOf(disk.path);
    if (disk.media === 'cdrom' || disk.readOnly) return { ...disk, path: blob };
    const { stateDir, vms } = this.#options;
    const directory = overlaysOf(stateDir, vm);
    await mkdir(directory, { recursive: true, mode: 0o711 });
    // The mask of the agent's unit takes from the mode what QEMU's user needs.
    if (vms.fileOwner !== undefined) {
      for (const way of [overlaysDirectory(stateDir), directory]) await openPassage(way, vms.fileOwner);
    }
    const path = join(directory, `${disk.id}-${randomBytes(6).toString('hex')}.qcow2`);
    overlays.push(path);
    await createOverlay(path, { path: blob, format: disk.format }, vms.fileOwner);
    return { ...disk, path, format: 'qcow2' };
  }

  /** QEMU's user reads them through directories that are the agent's. */
  async #letUserPass(): Promise<void> {
    const { vms, stateDir } = this.#options;
    if (vms.fileOwner === undefined) return;
    for (const path of [stateDir, imagesDirectory(stateDir)]) await openPassage(path, vms.fileOwner);
  }

  /** Of VMs that are gone, and of disks that are. */
  async #removeOverlays(isNamed: (path: string) => boolean): Promise<void> {
    const all = overlaysDirectory(this.#options.stateDir);
    const entries = await readdir(all, { withFileTypes: true }).catch(() => []);
    for (const directory of entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(all, name))) {
      const paths = (await readdir(directory).catch(() => [])).map((name) => join(directory, name));
      const unused = paths.filter((path) => !isNamed(path));
      for (const path of unused) await rm(path, { force: true });
      if (unused.length === paths.length) await rmdir(directory);
    }
  }

  #pin(digest: Digest, by: number): void {
    const pins = (this.#pinned.get(digest) ?? 0) + by;
    if (pins === 0) this.#pinned.delete(digest);
    else this.#pinned.set(digest, pins);
  }
}

/** Digests that a spec names. @throws FairleadError INVALID_PARAMS for a tag, which only the hub can resolve */
function imagesOf({ boot, disks }: VmSpec): Digest[] {
  const paths = [boot.kernel, boot.initrd, ...disks.map(({ path }) => path)];
  const images = paths.flatMap((path) => (path === undefined ? [] : (imageOf(path) ?? [])));
  const tag = images.find((image) => !isDigest(image));
  if (tag === undefined) return [...new Set(images)];
  throw new FairleadError('INVALID_PARAMS', `image ${tag} is a tag, and only a hub knows what it stands for: name its digest`);
}
