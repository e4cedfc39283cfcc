/**
 * Bytes of a QMP connection → JSON values (QMP specification, "Protocol Specification": one object a line, CRLF at its end).
 *
 * A line break cannot stand inside a JSON text that QEMU writes on one line (strings escape it), so a message ends at each LF. A monitor
 * in `pretty` mode, which spreads one object over lines, is not supported.
 *
 * A message is decoded only when it is whole: bytes may be split anywhere, also inside a character, and the time is linear in the
 * bytes however many chunks they come in. After `push` has thrown, the framer is of no more use.
 */
import { FairleadError } from '../../shared/errors.ts';

export const DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

const LF = 0x0a;
/** How much of a message that is no JSON is shown in the error. */
const EXCERPT_CHARS = 80;

export class QmpFramer {
  readonly #maxMessageBytes: number;
  /** The beginning of a message whose end has not come: its chunks in order, and their sum. */
  #partial: Buffer[] = [];
  #partialBytes = 0;

  constructor(options: { readonly maxMessageBytes?: number | undefined } = {}) {
    this.#maxMessageBytes = options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES;
  }

  /** Bytes kept of a message that is not whole yet. */
  get pendingBytes(): number {
    return this.#partialBytes;
  }

  /**
   * The messages that `chunk` completes. The caller takes them all or gives the connection up. The chunk is kept until its last
   * message is whole: it must not be written to again.
   *
   * @throws FairleadError PROTOCOL_ERROR for a message that is no JSON or longer than the limit.
   */
  *push(chunk: Buffer): Generator<unknown, void, void> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(LF, start);
      if (end === -1) break;
      this.#refuseOversize(end - start);
      const text = this.#take(chunk, start, end);
      start = end + 1;
      if (text.trim() !== '') yield parse(text);
    }
    if (start === chunk.length) return;
    const rest = chunk.subarray(start);
    this.#refuseOversize(rest.length);
    this.#partial.push(rest);
    this.#partialBytes += rest.length;
  }

  #take(chunk: Buffer, start: number, end: number): string {
    if (this.#partialBytes === 0) return chunk.toString('utf8', start, end);
    this.#partial.push(chunk.subarray(start, end));
    const line = Buffer.concat(this.#partial, this.#partialBytes + end - start);
    this.#partial = [];
    this.#partialBytes = 0;
    return line.toString('utf8');
  }

  #refuseOversize(moreBytes: number): void {
    if (this.#partialBytes + moreBytes <= this.#maxMessageBytes) return;
    throw new FairleadError('PROTOCOL_ERROR', `the message is longer than ${this.#maxMessageBytes} bytes`);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const excerpt = text.length <= EXCERPT_CHARS ? text : `${text.slice(0, EXCERPT_CHARS)}…`;
    throw new FairleadError('PROTOCOL_ERROR', `the message is no JSON: ${JSON.stringify(excerpt)}`, { cause });
  }
}
