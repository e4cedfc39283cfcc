/** One end of a stream, with buffers and back pressure (being written; the signatures are final). */
import type { FairleadError, JsonObject } from '../errors.ts';
import type { MuxSession } from './session.ts';
import type { RawStream } from './stream-handler.ts';

/** Told by the channel, never from within a call of its user except `read`. */
export interface ChannelEvents {
  /** `read()` has something, or the end came. */
  onReadable(): void;
  /** `write` may go on after it returned false. */
  onDrain(): void;
  /** Over: `error` is undefined when both directions ended in order. */
  onClose(error: FairleadError | undefined): void;
}

export declare class MuxChannel {
  /** Resolves when the other side accepts; rejects with its refusal, with LIMIT_EXCEEDED, INTERRUPTED, or the signal's reason. */
  static open(session: MuxSession, meta: JsonObject, options?: { signal?: AbortSignal }): Promise<MuxChannel>;
  /** Take a stream from `onOpen`. Refuses it and throws LIMIT_EXCEEDED when no memory is left for its window. */
  static accept(session: MuxSession, stream: RawStream, meta: JsonObject): MuxChannel;
  readonly id: number;
  /** Meta of OPEN_OK on the opener's side. */
  readonly meta: JsonObject;
  /** Set once by the one user of the channel (`channelDuplex` does). */
  events: ChannelEvents | undefined;
  /** Next chunk, which gives its credit back; undefined when there is none now. */
  read(): Uint8Array | undefined;
  /** True once the other side's end was reached and all was read. */
  readonly ended: boolean;
  /** False: wait for `onDrain`. The bytes are not touched afterwards. */
  write(bytes: Uint8Array): boolean;
  /** Half-close. */
  end(): void;
  reset(code: number, reason: string): void;
}
