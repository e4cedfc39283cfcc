/** Files of a guest, by its guest agent. Whole and unchanged, by their SHA-256, or an error. */
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import * as v from 'valibot';
import { FairleadError } from '../shared/errors.ts';
import { checkDigest, withDigest } from '../shared/node/digest-trailer.ts';
import { WrittenFile } from '../shared/protocol/methods-guest-files.ts';

export interface GuestFile {
  /** Undefined where the guest cannot say. */
  readonly sizeBytes: number | undefined;
  /** The file is whole and as the guest has it when the last has come without an error. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** What a stream of `guest.readFile` carries. */
export function readFrom(stream: Duplex, sizeBytes: number | undefined): GuestFile {
  // It may end before anybody reads it; who reads it then is told by the iteration.
  stream.on('error', () => {});
  stream.end();
  const chunks = checkDigest(stream);
  const iterator: AsyncIterableIterator<Uint8Array> = {
    next: () => chunks.next(),
    // A generator that nobody has begun runs nothing of itself when it is left.
    return: async () => {
      stream.destroy();
      await chunks.return('');
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => iterator,
  };
  return { sizeBytes, chunks: iterator };
}

/** Settles when the guest has the file in its place. @throws FairleadError; the guest has then what it had before */
export async function writeTo(stream: Duplex, chunks: AsyncIterable<Uint8Array>): Promise<WrittenFile> {
  const answer = text(stream);
  try {
    const [said] = await Promise.all([answer, pipeline(withDigest(chunks), stream, { end: true })]);
    return v.parse(WrittenFile, JSON.parse(said));
  } catch (error) {
    stream.destroy();
    // The stream's own end says more than that it could not be written to.
    const cause: unknown = await answer.then(
      () => error,
      (why: unknown) => why,
    );
    if (cause instanceof FairleadError || !(cause instanceof SyntaxError || v.isValiError(cause))) throw cause;
    throw new FairleadError('PROTOCOL_ERROR', 'the host ended the stream of a file without saying what it has', { cause });
  }
}
