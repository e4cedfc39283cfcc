/**
 * Every limit of the mux in one table: unit, value, origin. docs/reference/wire-protocol.md repeats it for other implementations.
 *
 * The first part is the wire format itself and never changes within protocol 1. The second part is policy: what this side grants,
 * which its HELLO states and a caller may lower or raise.
 */

/** Version of the frame format, stated in HELLO. */
export const PROTOCOL_VERSION = 1;

export const WIRE = {
  /** Bytes: u8 type, u8 flags, u16 length, u32 stream id. */
  headerBytes: 8,
  /** Bytes of payload that the u16 length can state. */
  maxPayloadBytes: 0xffff,
  /** HELLO's JSON, in bytes. */
  maxHelloBytes: 4096,
  /** JSON of OPEN, OPEN_OK, OPEN_ERR and GOAWAY, in bytes. */
  maxMetaBytes: 1024,
  /** UTF-8 text of a RESET, in bytes. */
  maxReasonBytes: 128,
  /** u32. Ids are never reused; a session that runs out of them says GOAWAY. */
  maxStreamId: 0xffff_ffff,
  /** Offsets are u64 on the wire and exact in a double: 8 PiB a stream. */
  maxOffset: Number.MAX_SAFE_INTEGER,
  /** Random bytes by which a stream is known on any line and at any hub. */
  streamKeyBytes: 16,
  /** Bytes of one entry of RESUME. */
  resumeEntryBytes: 56,
  /** Bytes of credit that may be open on one stream; QUIC stacks allow 6 to 16 MiB. */
  maxWindowBytes: 16 * 1024 * 1024,
} as const;

/** What one side grants the other. HELLO carries the first four. */
export interface MuxLimits {
  /** Payload bytes of a DATA frame that this side takes. 16 KiB as in HTTP/2: 1.3 ms of a 100 Mbit/s line. */
  readonly maxFrameBytes: number;
  /** Bytes of a binary WebSocket message that this side takes. */
  readonly maxMessageBytes: number;
  /** Credit in bytes that a new stream starts with. */
  readonly initialWindowBytes: number;
  /** Streams that the other side may have open at once. */
  readonly maxStreams: number;
  /** Bytes up to which a stream's window grows by doubling, when its reader keeps up and memory is left. */
  readonly maxStreamWindowBytes: number;
  /** Control frames that wait to be sent, in bytes: only a peer that asks and never reads gets there. */
  readonly maxControlQueueBytes: number;
}

export const DEFAULT_MUX_LIMITS: MuxLimits = {
  maxFrameBytes: 16 * 1024,
  maxMessageBytes: 256 * 1024,
  initialWindowBytes: 64 * 1024,
  maxStreams: 1024,
  maxStreamWindowBytes: 1024 * 1024,
  maxControlQueueBytes: 4 * 1024 * 1024,
};

/** Receive windows of one session and of the whole process, in bytes: memory is reserved before credit is given. */
export const SESSION_POOL_BYTES = 64 * 1024 * 1024;
export const PROCESS_POOL_BYTES = 512 * 1024 * 1024;

/** Bytes that a stream may send before the scheduler turns to the next one, where messages are not longer. */
export const SCHEDULER_QUANTUM_BYTES = 16 * 1024;

/**
 * Bytes of one binary message. More would hold up control calls, less would cost more calls to the kernel; and with what a WebSocket puts before
 * it and a PING behind it, it is one segment of TCP on loopback, whose packets have 64 KiB: a little more would be two.
 */
export const MESSAGE_BYTES = 65_400;
/** A piece of data that is worth neither a message nor a frame of its own while there is more. */
export const SCRAP_BYTES = 512;

/** Floods: each is a bucket of `burst` frames, refilled at `perSecond`. More than that closes the session with LIMIT_EXCEEDED. */
export const FLOOD = {
  /** Heartbeats are one in 10 s; a peer that was stopped for a while catches up with a few at once. */
  ping: { burst: 64, perSecond: 10 },
  /** OPEN and what ends a stream at once, whether the stream lives or not (rapid reset, CVE-2023-44487). */
  streams: { burst: 20_000, perSecond: 5_000 },
  /** WINDOW frames beyond one for each DATA frame that was sent. */
  window: { burst: 20_000, perSecond: 1_000 },
} as const;

/** Entries of one RESUME frame, so that it fits into the smallest message that this side makes; less where the other side takes less. */
export const RESUME_ENTRIES_A_FRAME = 256;
/** How long both sides keep the streams of a line that broke, in milliseconds. */
export const GRACE_MS = 60_000;

/** Ids never opened that the peer sent frames for: each gets one RESET, more of them end the session. */
export const MAX_UNKNOWN_STREAMS = 64;
/** PONGs that wait to be sent; older ones give way, since only the latest tells something. */
export const MAX_PENDING_PONGS = 8;
