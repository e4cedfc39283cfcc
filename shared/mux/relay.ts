/** Joins a stream of one session to a stream of another (being written; the signature is final). */
import type { JsonObject } from '../errors.ts';
import type { MuxSession } from './session.ts';
import type { RawStream } from './stream-handler.ts';

/**
 * Pass the offered stream `from` on to `session` with `meta`: OPEN_OK, OPEN_ERR, data, credit, FIN and RESET go through with offsets
 * unchanged. `onEnd` is called once when it is over. Never throws: what hinders it refuses `from`.
 */
export declare function relayStream(options: {
  from: RawStream;
  to: MuxSession;
  meta: JsonObject;
  onOpened?: (meta: JsonObject) => void;
  onEnd?: () => void;
}): void;
