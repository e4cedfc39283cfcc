/** The images of this host, loaded when the first of them is wanted: an agent whose VMs have files of their own never does. */
import { join } from 'node:path';
import { digestsIn, imageOf } from '../../shared/protocol/image-ref.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { DiskFile, HostImages, HostImagesOptions, PlacedFile } from './host-images.ts';
import { overlaysOf } from './overlays.ts';
import type { PullOptions } from './puller.ts';

/** A call's own limits. */
interface CallContext {
  readonly cancellation: PullOptions['signal'];
  progress(value: unknown): void;
}

/** How often a caller is told of progress, in milliseconds. */
const TELL_MS = 500;

export class ImagesOnDemand implements AsyncDisposable {
  readonly #options: HostImagesOptions;
  #images: Promise<HostImages> | undefined;

  constructor(options: HostImagesOptions) {
    this.#options = options;
  }

  get(): Promise<HostImages> {
    this.#images ??= import('./host-images.ts').then(({ HostImages }) => new HostImages(this.#options));
    return this.#images;
  }

  /** See HostImages.placed; a spec without images costs nothing. */
  async placed<T>(spec: VmSpec, context: CallContext, make: (spec: VmSpec) => Promise<T>): Promise<T> {
    if (!namesImages(spec)) return make(spec);
    return (await this.get()).placed(spec, { signal: context.cancellation }, make);
  }

  /** See HostImages.placedFile. */
  async placedFile<T>(vm: string, disk: DiskFile, context: CallContext, make: (file: PlacedFile) => Promise<T>): Promise<T> {
    if (disk.path === undefined || imageOf(disk.path) === undefined) return make(disk);
    return (await this.get()).placedFile(vm, disk, { signal: context.cancellation }, make);
  }

  /** Before a VM that is like this becomes another: its images stay. One that has none costs nothing. */
  async keepEarlier(spec: VmSpec): Promise<void> {
    const files = [spec.boot.kernel, spec.boot.initrd, ...spec.disks.map(({ path }) => path)];
    const images = join(this.#options.stateDir, 'images', '/');
    if (files.some((path) => path !== undefined && (path.startsWith(images) || digestsIn(path).length > 0))) {
      await (await this.get()).keepEarlier(spec);
    }
  }

  /** As it would be with its images here, for a dry run: nothing is fetched, and nothing made. */
  planned(spec: VmSpec): VmSpec {
    if (!namesImages(spec)) return spec;
    const directory = join(this.#options.stateDir, 'images');
    const fileOf = (path: string): string => {
      const image = imageOf(path);
      return image === undefined ? path : join(directory, 'sha256', image.replace('sha256:', ''));
    };
    const { kernel, initrd } = spec.boot;
    return {
      ...spec,
      boot: {
        ...spec.boot,
        ...(kernel === undefined ? {} : { kernel: fileOf(kernel) }),
        ...(initrd === undefined ? {} : { initrd: fileOf(initrd) }),
      },
      disks: spec.disks.map((disk) => {
        if (disk.path === undefined || imageOf(disk.path) === undefined) return disk;
        if (disk.media === 'cdrom' || disk.readOnly) return { ...disk, path: fileOf(disk.path) };
        return { ...disk, path: join(overlaysOf(this.#options.stateDir, spec.name), `${disk.id}.qcow2`), format: 'qcow2' };
      }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#images)?.[Symbol.asyncDispose]();
  }
}

/** What a pull tells its caller, now and then. */
export function pullOptionsOf({ cancellation, progress }: CallContext): PullOptions {
  let toldAt = Number.NEGATIVE_INFINITY;
  return {
    signal: cancellation,
    onProgress: (value) => {
      const now = performance.now();
      if (now - toldAt < TELL_MS && value.doneBytes < value.totalBytes) return;
      toldAt = now;
      progress(value);
    },
  };
}

function namesImages({ boot, disks }: VmSpec): boolean {
  return [boot.kernel, boot.initrd, ...disks.map(({ path }) => path)].some(
    (path) => path !== undefined && imageOf(path) !== undefined,
  );
}
