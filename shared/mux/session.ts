/** The mux session (being written; the signatures are final). */
import type { JsonObject } from '../errors.ts';
import type { MemoryPool } from './pool.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

export declare class MuxSession {
  /** Streams open, from either side. */
  readonly streamCount: number;
  /** Session's share of receive memory. */
  readonly pool: MemoryPool;
  /** Open a raw stream (for relays); throws INTERRUPTED on a closed or leaving session, LIMIT_EXCEEDED beyond the peer's maxStreams. */
  open(meta: JsonObject, handler: StreamHandler, creditBytes: number): RawStream;
}
