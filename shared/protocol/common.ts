/** Primitive schemas of the contract. Every string and array is bounded: what comes off the wire has a known worst case. */
import * as v from 'valibot';

/** Name of a VM or a host: a DNS label, so that it is safe in paths, argv and labels. */
export const Name = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(63),
  v.regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, 'must be lower-case letters, digits and inner dashes'),
);

/** A path on the host: absolute, without NUL. Kernel limit PATH_MAX is 4096 with its NUL. */
export const HostPath = v.pipe(
  v.string(),
  v.maxLength(4095),
  v.regex(/^\/[^\0]*$/, 'must be an absolute path on the host, without NUL characters'),
);

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1000,
  M: 1000 ** 2,
  G: 1000 ** 3,
  T: 1000 ** 4,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};
const SIZE = /^(\d+(?:\.\d+)?)\s*(k|M|G|T|KiB|MiB|GiB|TiB)?B?$/;

/**
 * Bytes as a number, or as text such as `512MiB`; output is always a number of bytes. `least` is a size as well, and is checked
 * before and after the text is read, so that JSON Schema can say it of the number at least.
 */
export function bytesAtLeast(least: string) {
  const leastBytes = toBytes(least);
  const tooSmall = `must be at least ${least}`;
  return v.pipe(
    v.union([
      v.pipe(v.number(), v.safeInteger(), v.minValue(leastBytes, tooSmall)),
      v.pipe(v.string(), v.maxLength(24), v.regex(SIZE, 'must be a number of bytes, or a size such as 512MiB')),
    ]),
    v.title(least === '0' ? 'size' : `size from ${least}`),
    v.description(`bytes as a number, or as text such as "512MiB"`),
    v.transform((value) => (typeof value === 'number' ? value : toBytes(value))),
    v.number(),
    v.safeInteger('must be less than 2^53 bytes'),
    v.minValue(leastBytes, tooSmall),
  );
}

export const Bytes = bytesAtLeast('0');

/** NaN for text that is no size. */
function toBytes(size: string): number {
  const match = SIZE.exec(size);
  return Math.round(Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN));
}

/** A whole number from 0 that JSON carries exactly. */
export const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** A vsock port (u32; 0xFFFFFFFF means "any" and cannot be dialled). */
export const VsockPort = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xfffffffe));

export const Labels = v.pipe(
  v.record(
    v.pipe(v.string(), v.minLength(1), v.maxLength(63), v.regex(/^[a-zA-Z0-9]([a-zA-Z0-9._/-]*[a-zA-Z0-9])?$/)),
    v.pipe(v.string(), v.maxLength(255)),
  ),
  v.maxEntries(64),
);

/** RFC 3339 UTC timestamp with milliseconds. */
export const Timestamp = v.pipe(v.string(), v.maxLength(40), v.isoTimestamp());
