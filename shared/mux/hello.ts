/** HELLO: the first frame each way. Its JSON says who speaks and what it takes; new fields go into `extensions`. */
import * as v from 'valibot';
import { WIRE } from './limits.ts';

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const bytes = (min: number, max: number) => v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));
/** 128 bits as base64url without padding (RFC 4648 §5). */
const Id128 = v.pipe(v.string(), v.length(22), v.regex(/^[A-Za-z0-9_-]+$/));

export const LineRole = v.picklist(['agent', 'hub', 'operator']);
export type LineRole = v.InferOutput<typeof LineRole>;

export const Hello = v.strictObject({
  /** Version of the frame format. */
  protocol: Count,
  /** Version of the method table (`CONTRACT_VERSION`). */
  contract: Count,
  /** Name and version for logs, such as `fairlead/0.1.0`. */
  software: v.pipe(v.string(), v.maxLength(128), v.regex(/^[\x20-\x7e]*$/)),
  role: LineRole,
  limits: v.strictObject({
    maxFrameBytes: bytes(1024, WIRE.maxPayloadBytes),
    maxMessageBytes: bytes(8192, 16 * 1024 * 1024),
    /** Told for information: the credit that counts stands in each OPEN and OPEN_OK. */
    initialWindowBytes: bytes(0, WIRE.maxWindowBytes),
    maxStreams: bytes(0, 1_000_000),
  }),
  session: v.strictObject({
    /** Of the dialler, and the same on each line that it dials for the same streams. */
    id: Id128,
    /** Secret by which a dialler proves that the streams of that session are its own. Without it, none is ever resumed. */
    key: v.optional(Id128),
    /** Rises with each session of a host that a hub accepts: the newest wins. 0 before the first. */
    epoch: Count,
    /** Dialler: it holds streams of an earlier line, and RESUME follows. Acceptor: it takes RESUME. */
    resume: v.optional(v.boolean()),
  }),
  /** Fields of later versions, by name; a receiver passes over what it does not know. */
  extensions: v.optional(v.record(v.pipe(v.string(), v.maxLength(64)), v.unknown())),
});
export type PeerHello = v.InferOutput<typeof Hello>;

/** What a side states of itself; protocol version and limits are filled in. */
export interface LocalHello {
  readonly contract: number;
  readonly software: string;
  readonly role: LineRole;
  /** Made up by the line when absent. */
  readonly session?: { readonly id: string; readonly key?: string; readonly epoch: number; readonly resume?: boolean };
  readonly extensions?: Readonly<Record<string, unknown>>;
}
