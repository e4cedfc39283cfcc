/** Images: what the hub keeps of them (`image.*`), and what hosts have (`blob.*`). */
import * as v from 'valibot';
import { Count, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { Digest, ImageName, ImageTag } from './image-ref.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;
const hostCall = { target: 'agent', kind: 'call', since: 1 } as const;

export const ImageInfo = v.strictObject({
  digest: Digest,
  bytes: Count,
  createdAt: Timestamp,
  tags: v.array(ImageTag),
});
export type ImageInfo = v.InferOutput<typeof ImageInfo>;

const Removed = v.strictObject({ digests: v.array(Digest), bytes: Count });

/** What goes over the stream of `image.push` back to its opener once all is kept: one line of JSON. */
export const PushedImage = v.object({ digest: Digest, bytes: Count });

export const IMAGE_METHODS = {
  'image.push': {
    target: 'hub',
    kind: 'stream',
    since: 1,
    role: 'operator',
    idempotent: true,
    summary:
      'Bring an image to the hub: its bytes from `offset` on, then the end. A line of JSON answers once it is whole, of that digest and on disk; what has come of one that broke off is kept',
    params: v.strictObject({ digest: Digest, bytes: Count }),
    result: v.strictObject({ offset: Count }),
    errors: ['CONFLICT', 'STORAGE_FAILED', 'LIMIT_EXCEEDED'],
  },
  'image.list': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Images of the hub with their tags',
    params: v.strictObject({
      after: v.optional(Digest),
      limit: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(500)), 500),
    }),
    result: v.strictObject({ images: v.array(ImageInfo), next: v.optional(Digest) }),
    errors: [],
  },
  'image.resolve': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'The image that a tag stands for now',
    params: v.strictObject({ image: ImageName }),
    result: ImageInfo,
    errors: ['NOT_FOUND'],
  },
  'image.tag': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Let a tag stand for an image; if there is such a tag, it moves',
    params: v.strictObject({ image: ImageName, tag: ImageTag }),
    result: ImageInfo,
    errors: ['NOT_FOUND'],
  },
  'image.remove': {
    ...hubCall,
    role: 'operator',
    idempotent: false,
    summary: 'Take a tag away, or an image by its digest: one that no tag, and no VM or snapshot of a host, uses',
    params: v.strictObject({ image: ImageName }),
    result: v.strictObject({ untagged: v.array(ImageTag), removed: v.optional(Digest) }),
    errors: ['NOT_FOUND', 'CONFLICT'],
  },
  'image.collect': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary:
      'Remove the images that no tag, and no VM or snapshot of a host, uses; hosts that are away keep what they have pulled',
    params: v.strictObject({
      dryRun: v.optional(v.boolean(), false),
      /** Younger ones stay: their tag may be on its way. */
      olderThanMs: v.optional(Count, 3_600_000),
    }),
    result: Removed,
    errors: ['STORAGE_FAILED'],
  },
  'blob.pull': {
    ...hostCall,
    role: 'operator',
    idempotent: true,
    summary: 'Have the host fetch an image from the hub before a VM wants it',
    params: v.strictObject({ digest: Digest }),
    result: v.strictObject({ digest: Digest, bytes: Count, path: v.string() }),
    progress: v.strictObject({ doneBytes: Count, totalBytes: Count }),
    errors: ['STORAGE_FAILED', 'INTERRUPTED'],
  },
  'blob.list': {
    ...hostCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Images that the host has, and whether a VM or a snapshot uses them',
    params: v.strictObject({}),
    result: v.strictObject({ blobs: v.array(v.strictObject({ digest: Digest, bytes: Count, inUse: v.boolean() })) }),
    errors: [],
  },
  'blob.collect': {
    ...hostCall,
    role: 'operator',
    idempotent: true,
    summary: 'Remove the images of the host that no VM and no snapshot uses',
    params: v.strictObject({ dryRun: v.optional(v.boolean(), false) }),
    result: Removed,
    errors: ['STORAGE_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;

/** What a host may open at its hub; no operator's method. OPEN's meta is `{method, params}` as always. */
export const IMAGE_PULL = 'image.pull';
export const ImagePull = v.strictObject({ digest: Digest, offset: Count });
export const ImagePulled = v.object({ bytes: Count });
