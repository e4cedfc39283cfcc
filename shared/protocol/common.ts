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
  v.regex(/^\//, 'must be an absolute path on the host'),
  v.check((path) => !path.includes('\0'), 'must not contain a NUL character'),
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

/** Bytes as a number, or as text such as `512MiB`. Output is always a number of bytes. */
export const Bytes = v.pipe(
  v.union([v.number(), v.pipe(v.string(), v.maxLength(24))]),
  v.transform((value) => {
    if (typeof value === 'number') return value;
    const match = /^(\d+(?:\.\d+)?)\s*(k|M|G|T|KiB|MiB|GiB|TiB)?B?$/.exec(value);
    const unit = UNITS[match?.[2] ?? ''];
    return match === null || unit === undefined ? Number.NaN : Math.round(Number(match[1]) * unit);
  }),
  v.number('must be a number of bytes, or a size such as 512MiB'),
  v.safeInteger(),
  v.minValue(0),
);

/** A vsock port (u32; 0xFFFFFFFF means "any" and cannot be dialled). */
export const VsockPort = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xfffffffe));

export const Labels = v.pipe(
  v.record(
    v.pipe(v.string(), v.minLength(1), v.maxLength(63), v.regex(/^[a-zA-Z0-9]([a-zA-Z0-9._/-]*[a-zA-Z0-9])?$/)),
    v.pipe(v.string(), v.maxLength(255)),
  ),
  v.check((labels) => Object.keys(labels).length <= 64, 'at most 64 labels'),
);

/** RFC 3339 UTC timestamp with milliseconds. */
export const Timestamp = v.pipe(v.string(), v.maxLength(40), v.isoTimestamp());

export const Json: v.GenericSchema<unknown> = v.unknown();
