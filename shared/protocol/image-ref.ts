/**
 * How images are named: by what they hold, or by a tag that an operator moves.
 *
 *     sha256:9f86d0…                   64 hexadecimal digits: a digest, and always the same bytes
 *     debian:12                        NAME:TAG, which the hub resolves to the digest that it stands for now
 *     image:sha256:9f86d0… , image:debian:12      the same in a VM's spec, where a path of the host could be as well
 */
import * as v from 'valibot';
import type { JsonObject } from '../errors.ts';
import { HostPath } from './common.ts';

export const Digest = v.pipe(
  v.string(),
  v.length(71),
  v.regex(/^sha256:[0-9a-f]{64}$/, 'must be sha256: and 64 lower-case hexadecimal digits'),
);
export type Digest = v.InferOutput<typeof Digest>;

const TAG = /^(?!sha256:)[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?:[A-Za-z0-9]([A-Za-z0-9._-]{0,126})?$/;

/** Neither part can lead out of a directory, or be taken for a digest. */
export const ImageTag = v.pipe(v.string(), v.maxLength(200), v.regex(TAG, 'must be NAME:TAG, such as debian:12'));
export const ImageName = v.union([Digest, ImageTag], 'must be sha256:DIGITS or NAME:TAG');

const PREFIX = 'image:';
const REFERENCE =
  /^image:(sha256:[0-9a-f]{64}|(?!sha256:)[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?:[A-Za-z0-9]([A-Za-z0-9._-]{0,126})?)$/;

/** Where a spec names a file: one of the host, or an image. */
export const FileOrImage = v.union(
  [HostPath, v.pipe(v.string(), v.maxLength(206), v.regex(REFERENCE, 'must be image:sha256:DIGITS or image:NAME:TAG'))],
  'must be an absolute path on the host, without NUL characters, or image:NAME:TAG or image:sha256:DIGITS',
);

/** What a spec names as an image, without the prefix; undefined for a path. */
export function imageOf(path: string): string | undefined {
  return path.startsWith(PREFIX) ? path.slice(PREFIX.length) : undefined;
}

export function isDigest(name: string): boolean {
  return v.is(Digest, name);
}

type Replace = (image: string) => Promise<string>;

/** A spec as somebody wrote it with each image that it names replaced, in the order in which it names them; all else is left as it is. */
export async function mapImages(spec: JsonObject, replace: Replace): Promise<JsonObject> {
  const { boot, disks } = spec;
  const result: Record<string, unknown> = { ...spec };
  if (boot !== undefined) result['boot'] = await mapped(boot, ['kernel', 'initrd'], replace);
  if (Array.isArray(disks)) {
    const list: unknown[] = [];
    for (const disk of disks) list.push(await mapped(disk, ['path'], replace));
    result['disks'] = list;
  }
  // SAFETY: it was JSON, and strings of it were replaced by strings.
  return result as JsonObject;
}

/** The same of one disk or medium. */
export async function mapImage(disk: JsonObject, replace: Replace): Promise<JsonObject> {
  // SAFETY: likewise.
  return (await mapped(disk, ['path'], replace)) as JsonObject;
}

async function mapped(holder: unknown, keys: readonly string[], replace: Replace): Promise<unknown> {
  if (typeof holder !== 'object' || holder === null || Array.isArray(holder)) return holder;
  const copy: Record<string, unknown> = { ...holder };
  for (const key of keys) {
    const path = copy[key];
    const image = typeof path === 'string' ? imageOf(path) : undefined;
    if (image !== undefined) copy[key] = await replace(image);
  }
  return copy;
}

/** Digests in a text of any form, such as a spec or a manifest: as they are named, and as files of theirs are. */
export function digestsIn(text: string): Digest[] {
  return [...text.matchAll(/sha256[:/-]([0-9a-f]{64})(?![0-9a-f])/g)].map(([, hex = '']) => `sha256:${hex}`);
}
