/**
 * What operators may do with the hub's images, and what becomes of the images that a spec names: a tag is resolved once, before a command
 * is kept, so that all hosts and every repeat get the same bytes.
 */
import * as v from 'valibot';
import { FairleadError, type JsonObject, type JsonValue } from '../../shared/errors.ts';
import { type Digest, ImageTag, imageOf, isDigest, mapImage, mapImages } from '../../shared/protocol/image-ref.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import type { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import type { ImageBook } from './image-book.ts';

export interface ImagesOptions {
  readonly book: ImageBook;
  /** Asks a host that is connected; undefined for one that is away, and null for one that is no host of ours. */
  readonly blobsOf: (host: string) => Promise<unknown>;
  /** What the hub itself is going to want: digests, each with who names it. */
  readonly named: () => Promise<ReadonlyMap<Digest, string>>;
  readonly now: () => number;
}

/** Of `blob.list`, from hosts that may be newer than the hub. */
const HostBlobs = v.object({ blobs: v.array(v.object({ digest: v.string(), inUse: v.boolean() })) });

/** False of most params, which then are what `resolved` would give, without waiting. */
export function mayNameImages({ spec, disk, release, path }: JsonObject): boolean {
  return spec !== undefined || disk !== undefined || release !== undefined || path !== undefined;
}

export class Images {
  readonly book: ImageBook;
  readonly #options: ImagesOptions;
  /** Nothing is removed while something is being looked at, or tagged. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ImagesOptions) {
    this.#options = options;
    this.book = options.book;
  }

  /** The params with each tag that they name, in a spec, a disk, a medium or as a release, replaced by its digest. @throws FairleadError NOT_FOUND */
  async resolved(params: JsonObject): Promise<JsonObject> {
    const { spec, disk, release } = params;
    const isFile = typeof params['path'] === 'string' && imageOf(params['path']) !== undefined;
    return {
      ...(isFile ? await mapImage(params, this.#byDigest) : params),
      ...(isObject(spec) && { spec: await mapImages(spec, this.#byDigest) }),
      ...(typeof release === 'string' && { release: await this.#releaseDigest(release) }),
      ...(isObject(disk) && { disk: await mapImage(disk, this.#byDigest) }),
    };
  }

  /** The same of a spec. @throws FairleadError NOT_FOUND */
  async resolvedSpec<Spec extends object>(spec: Spec): Promise<Spec> {
    // SAFETY: specs are JSON, and what is replaced stays text.
    return (await mapImages(spec as JsonObject, this.#byDigest)) as Spec;
  }

  /** The same of all that the steps of a rollout say: it is frozen with its plan. @throws FairleadError NOT_FOUND */
  async resolvedSteps(rollout: RolloutSpec): Promise<RolloutSpec> {
    const steps = await Promise.all(
      rollout.steps.map(async (step) => {
        if (step.kind === 'agent') return { ...step, release: await this.#releaseDigest(step.release) };
        if (step.kind === 'vm') return { ...step, patch: await this.resolvedSpec(step.patch) };
        // SAFETY: params of a step came out of JSON.
        return { ...step, params: await this.resolved(step.params as JsonObject) };
      }),
    );
    return { ...rollout, steps };
  }

  async #releaseDigest(release: string): Promise<string> {
    return v.is(ImageTag, release) ? (await this.book.resolve(release)).digest : release;
  }

  readonly #byDigest = async (image: string): Promise<string> => `image:${(await this.book.resolve(image)).digest}`;

  tag({ image, tag }: Params<'image.tag'>, by: string): Promise<Result<'image.tag'>> {
    return this.#inTurn(() => this.book.tag(image, tag, by));
  }

  remove({ image }: Params<'image.remove'>): Promise<Result<'image.remove'>> {
    return this.#inTurn(async () => {
      if (!isDigest(image)) {
        if (!(await this.book.untag(image))) throw new FairleadError('NOT_FOUND', `the hub has no tag ${image}`);
        return { untagged: [image] };
      }
      const { digest, tags } = await this.book.resolve(image);
      if (tags.length > 0) throw inUse(digest, `the tags ${tags.join(', ')} stand for it: remove them first`);
      const name = (await this.#options.named()).get(digest);
      if (name !== undefined) throw inUse(digest, `${name} names it`);
      const [holder] = await this.#users(digest);
      if (holder !== undefined) throw inUse(digest, `host ${holder} uses it, or is away and may`);
      await this.book.remove(digest);
      return { untagged: [], removed: digest };
    });
  }

  collect({ dryRun, olderThanMs }: Params<'image.collect'>): Promise<Result<'image.collect'>> {
    return this.#inTurn(async () => {
      const digests: Digest[] = [];
      let bytes = 0;
      const named = await this.#options.named();
      for (const blob of await this.book.untagged(this.#options.now() - olderThanMs)) {
        if (named.has(blob.digest) || (await this.#users(blob.digest)).length > 0) continue;
        if (!dryRun) await this.book.remove(blob.digest);
        digests.push(blob.digest);
        bytes += blob.bytes;
      }
      if (!dryRun) await this.book.files.forgetPartials(this.#options.now());
      return { digests, bytes };
    });
  }

  /** Hosts that use it, or are away and may. Those that say they do not are forgotten as its holders. */
  async #users(digest: Digest): Promise<readonly string[]> {
    const users: string[] = [];
    for (const host of await this.book.holdersOf(digest)) {
      if (await this.#uses(host, digest)) users.push(host);
      else await this.book.dropped(digest, host);
    }
    return users;
  }

  async #uses(host: string, digest: Digest): Promise<boolean> {
    const answer = await this.#options.blobsOf(host);
    if (answer === null) return false;
    const said = v.safeParse(HostBlobs, answer);
    if (!said.success) return true;
    return said.output.blobs.some((blob) => blob.digest === digest && blob.inUse);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => {});
    return done;
  }
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function inUse(digest: Digest, why: string): FairleadError {
  return new FairleadError('CONFLICT', `image ${digest} stays: ${why}`, { details: { digest } });
}
