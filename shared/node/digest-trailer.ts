/**
 * Bytes followed by their SHA-256, as files go through streams: a stream that ended early, or anything between that changed a byte, is
 * noticed by who receives it.
 */
import { createHash } from 'node:crypto';
import { FairleadError } from '../errors.ts';

const DIGEST_BYTES = 32;

/** The chunks, and then one more: the digest of them all. */
export async function* withDigest(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash('sha256');
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  yield hash.digest();
}

/**
 * The chunks without the digest that ends them; gives it, in hexadecimal digits, when it is that of what came before.
 *
 * @throws FairleadError PROTOCOL_ERROR after the last chunk when it is not, or is missing
 */
export async function* checkDigest(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, string, undefined> {
  const hash = createHash('sha256');
  let held: Uint8Array = new Uint8Array(0);
  for await (const chunk of chunks) {
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const end = Math.max(0, bytes.length - DIGEST_BYTES);
    // A copy: whoever takes the rest may keep it, and with it the whole chunk.
    held = bytes.slice(end);
    if (end === 0) continue;
    const content = bytes.subarray(0, end);
    hash.update(content);
    yield content;
  }
  const digest = hash.digest();
  if (held.length === DIGEST_BYTES && digest.equals(held)) return digest.toString('hex');
  const why = held.length < DIGEST_BYTES ? 'it ends before its SHA-256' : 'its SHA-256 is another';
  throw new FairleadError('PROTOCOL_ERROR', `the file did not come as it was sent: ${why}`);
}
