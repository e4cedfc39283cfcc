/** A file, as it were: each byte counts, and the other end answers with the hash of what it got. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import type { TransferOrder, Transferred } from '../order.ts';
import type { Tunnel } from './tunnel.ts';

const CHUNK_BYTES = 64 * 1024;

export async function transfer(tunnel: Tunnel, { bytes }: TransferOrder): Promise<Transferred> {
  const stream = await tunnel.open('h');
  const answer = text(stream);
  const sha256 = createHash('sha256');
  for (let written = 0; written < bytes; written += CHUNK_BYTES) {
    const chunk = randomBytes(CHUNK_BYTES);
    sha256.update(chunk);
    if (!stream.write(chunk)) await Promise.race([once(stream, 'drain'), answer]);
  }
  stream.end();
  return { sent: sha256.digest('hex'), got: await answer };
}
