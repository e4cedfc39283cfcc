/**
 * The images of this host: fetched when a spec names them, given to VMs as files, removed when nothing uses them.
 *
 *     STATE/images/sha256/DIGITS      as the hub has it, read only: kernels, initial RAM disks, disks that are only read
 *     STATE/images/overlays/VM/…      what a VM writes onto a disk that is an image: a qcow2 image of its own above it
 *     STATE/images/earlier/VM.json    what a VM was before it was redefined
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
import { EarlierSpecs } from './earlier-specs.ts';
import { overlaysDirectory, overlaysOf } from './overlays.ts';
import { Puller, type PullerOptions, type PullOptions } from './puller.ts';
import { standsOn } from './stands-on.ts';
import { usedImages } from './used-images.ts';

export interface HostImagesOptions extends Omit<PullerOptions, 'files'> {
  readonly vms: Vms;
  readonly stateDir: string;
  /** Where records may name images, besides the specs of VMs. */
  readonly recordDirectories: readonly string[];
}

export type PlacedFile = Pick<Disk, 'path' | 'format'>;
/** What of a disk says which file it is. A CD drive only reads. */
export type DiskFile = PlacedFile & Pick<Disk, 'id' | 'readOnly'>;

function imagesDirectory(stateDir: string): string {
  return join(stateDir, 'images');
}

export class HostImages implements AsyncDisposable {
  readonly #options: HostImagesOptions;
  readonly #files: BlobFiles;
  readonly #puller: Puller;
  readonly #earlier: EarlierSpecs;
  /** Being given to VMs that are not made yet, and how often. */
  readonly #pinned = new Map<string, number>();
  /** While unused ones are looked for and removed, nothing new is given out. */
  #collecting: Promise<unknown> = Promise.resolve();

  constructor(options: HostImagesOptions) {
    this.#options = options;
    const directory = imagesDirectory(options.stateDir);
    this.#files = new BlobFiles({ directory, blobMode: options.vms.fileOwner === undefined ? 0o400 : 0o444 });
    this.#puller = new Puller({ ...options, files: this.#files });
    this.#earlier = new EarlierSpecs(options.stateDir);
  }

  /** Runs `make` with the spec whose images are here as files, which nobody removes meanwhile. */
  async placed<T>(spec: VmSpec, options: PullOptions, make: (spec: VmSpec) => Promise<T>): Promise<T> {
    const { kernel, initrd } = spec.boot;
    const images = imagesIn([kernel, initrd, ...spec.disks.map(({ path }) => path)]);
    if (images.length === 0) return make(spec);
    return await this.#holding(images, options, async (overlays) => {
      const disks: Disk[] = [];
      for (const disk of spec.disks) disks.push(await this.#placedDisk(spec.name, disk, overlays));
      return await make({ ...this.#withBoot(spec), disks });
    });
  }

  /** The same of one disk or CD drive of a VM that runs. A disk that it has by that id on the same image is that very disk. */
  async placedFile<T>(vm: string, disk: DiskFile, options: PullOptions, make: (file: PlacedFile) => Promise<T>): Promise<T> {
    const images = imagesIn([disk.path]);
    const [digest] = images;
    if (digest === undefined) return make(disk);
    return await this.#holding(images, options, async (overlays) => {
      const there = this.#options.vms.get(vm).spec.disks.find(({ id }) => id === disk.id);
      const isSame = there?.path !== undefined && there.readOnly === disk.readOnly && (await standsOn(there.path, digest));
      return await make(isSame ? there : await this.#placedDisk(vm, disk, overlays));
    });
  }

  /** What the VM was names images, and may be wanted again. */
  async keepEarlier(spec: VmSpec): Promise<void> {
    await this.#earlier.keep(spec);
  }

  /** Runs `make` while the images are here. What it adds to `overlays` is removed if it throws. */
  async #holding<T>(images: readonly Digest[], options: PullOptions, make: (overlays: string[]) => Promise<T>): Promise<T> {
    for (let last: unknown; last !== this.#collecting; ) {
      last = this.#collecting;
      await last;
    }
    for (const digest of images) this.#pin(digest, 1);
    const overlays: string[] = [];
    try {
      for (const digest of images) await this.#puller.pull(digest, options);
      await this.#letUserPass();
      return await make(overlays);
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
    const vms = new Set([...this.#options.vms.list(), ...this.#options.vms.broken].map(({ name }) => name));
    if (!dryRun) await this.#earlier.forget((vm) => vms.has(vm));
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
    const { vms, recordDirectories, stateDir } = this.#options;
    const directories = [...recordDirectories, this.#earlier.directory];
    return usedImages({ vms, directories, overlays: overlaysDirectory(stateDir) });
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

  async #placedDisk<D extends DiskFile>(vm: string, disk: D, overlays: string[]): Promise<D> {
    if (disk.path === undefined || imageOf(disk.path) === undefined) return disk;
    const blob = this.#fileOf(disk.path);
    if (disk.readOnly) return { ...disk, path: blob };
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

/** Digests among what a spec names. @throws FairleadError INVALID_PARAMS for a tag, which only the hub can resolve */
function imagesIn(paths: readonly (string | undefined)[]): Digest[] {
  const images = paths.flatMap((path) => (path === undefined ? [] : (imageOf(path) ?? [])));
  const tag = images.find((image) => !isDigest(image));
  if (tag === undefined) return [...new Set(images)];
  throw new FairleadError('INVALID_PARAMS', `image ${tag} is a tag, and only a hub knows what it stands for: name its digest`);
}
