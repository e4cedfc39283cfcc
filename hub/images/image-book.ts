/**
 * The images of the hub: their bytes in files, which of them there are and what tags stand for them in the store, and which hosts have
 * pulled which, so that nothing is removed under a VM.
 */
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import type { BlobFiles } from '../../shared/node/blob-files.ts';
import { Name } from '../../shared/protocol/common.ts';
import { Digest, ImageTag, isDigest } from '../../shared/protocol/image-ref.ts';
import type { ImageInfo } from '../../shared/protocol/methods-image.ts';
import { type Collection, defineCollection, removeLatest, type Store } from '../store/store.ts';

const Milliseconds = v.pipe(v.number(), v.integer(), v.minValue(0));
const BlobRecord = v.strictObject({ digest: Digest, bytes: Milliseconds, createdAtMs: Milliseconds, by: v.string() });
type BlobRecord = v.InferOutput<typeof BlobRecord>;
const TagRecord = v.strictObject({ tag: ImageTag, digest: Digest, movedAtMs: Milliseconds, by: v.string() });
type TagRecord = v.InferOutput<typeof TagRecord>;
const Holder = v.strictObject({ digest: Digest, host: Name });
type Holder = v.InferOutput<typeof Holder>;

const BLOBS = defineCollection('blobs', BlobRecord);
const TAGS = defineCollection('tags', TagRecord);
/** By `DIGEST/HOST`: hosts that have pulled a blob, and have not said since that they do not use it. */
const HOLDERS = defineCollection('blob_holders', Holder);

export interface ImageBookOptions {
  readonly store: Store;
  readonly files: BlobFiles;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export class ImageBook {
  readonly files: BlobFiles;
  readonly #blobs: Collection<BlobRecord>;
  readonly #tags: Collection<TagRecord>;
  readonly #holders: Collection<Holder>;
  readonly #now: () => number;

  constructor({ store, files, now }: ImageBookOptions) {
    this.files = files;
    this.#blobs = store.collection(BLOBS);
    this.#tags = store.collection(TAGS);
    this.#holders = store.collection(HOLDERS);
    this.#now = now;
  }

  /** Its bytes are whole and on disk. */
  async add(digest: Digest, bytes: number, by: string): Promise<void> {
    await this.#blobs.put(digest, { digest, bytes, createdAtMs: this.#now(), by });
  }

  /** Undefined for one whose bytes are gone, too: a record without them is of no use to anybody. */
  async find(digest: Digest): Promise<BlobRecord | undefined> {
    const record = (await this.#blobs.get(digest))?.value;
    return record === undefined || (await this.files.find(digest)) === undefined ? undefined : record;
  }

  async list(range: { after?: string | undefined; limit: number }): Promise<{ images: ImageInfo[]; next?: Digest }> {
    const blobs = await this.#blobs.list({ ...range, limit: range.limit + 1 });
    const tags = await this.#tagsByDigest();
    const images = blobs.slice(0, range.limit).map(({ value }) => infoOf(value, tags.get(value.digest) ?? []));
    const last = images.at(-1);
    return blobs.length > range.limit && last !== undefined ? { images, next: last.digest } : { images };
  }

  /** The image of a tag or a digest. @throws FairleadError NOT_FOUND */
  async resolve(image: string): Promise<ImageInfo> {
    const digest = isDigest(image) ? image : (await this.#tags.get(image))?.value.digest;
    const blob = digest === undefined ? undefined : await this.find(digest);
    if (blob === undefined) {
      const what =
        digest === undefined || digest === image ? `no image ${image}` : `no image ${digest}, which ${image} stands for,`;
      throw new FairleadError('NOT_FOUND', `the hub has ${what}: bring it with fairlead image push`);
    }
    return infoOf(blob, (await this.#tagsByDigest()).get(blob.digest) ?? []);
  }

  /** @throws FairleadError NOT_FOUND */
  async tag(image: string, tag: string, by: string): Promise<ImageInfo> {
    const { digest } = await this.resolve(image);
    await this.#tags.put(tag, { tag, digest, movedAtMs: this.#now(), by });
    return this.resolve(digest);
  }

  /** False where there is no such tag. */
  untag(tag: string): Promise<boolean> {
    return removeLatest(this.#tags, tag);
  }

  /** Before the host gets its first byte. */
  async pulling(digest: Digest, host: string): Promise<void> {
    await this.#holders.put(`${digest}/${host}`, { digest, host });
  }

  /** Hosts that may use the blob. */
  async holdersOf(digest: Digest): Promise<readonly string[]> {
    return (await this.#holders.list({ prefix: `${digest}/` })).map(({ value }) => value.host);
  }

  /** The host has said that it uses none of it, or is no host of ours any more. */
  async dropped(digest: Digest, host: string): Promise<void> {
    await this.#holders.discard(`${digest}/${host}`);
  }

  /** Digests without a tag, of before then. */
  async untagged(beforeMs: number): Promise<ReadonlyArray<{ digest: Digest; bytes: number }>> {
    const tags = await this.#tagsByDigest();
    const blobs = await this.#blobs.list();
    return blobs.map(({ value }) => value).filter(({ digest, createdAtMs }) => !tags.has(digest) && createdAtMs <= beforeMs);
  }

  /** The record first: one without its bytes is noticed, bytes without their record are only room. */
  async remove(digest: Digest): Promise<void> {
    await this.#blobs.discard(digest);
    await this.files.remove(digest);
  }

  async #tagsByDigest(): Promise<ReadonlyMap<Digest, readonly string[]>> {
    const tags = new Map<Digest, string[]>();
    for (const { value } of await this.#tags.list()) tags.set(value.digest, [...(tags.get(value.digest) ?? []), value.tag]);
    return tags;
  }
}

function infoOf({ digest, bytes, createdAtMs }: BlobRecord, tags: readonly string[]): ImageInfo {
  return { digest, bytes, createdAt: new Date(createdAtMs).toISOString(), tags: [...tags] };
}
