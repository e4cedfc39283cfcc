/** Many streams into one guest at once, random bytes through each in both directions, both ends compared by hash. */
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';

const CHUNK_BYTES = 64 * 1024;

export interface EchoResult {
  readonly sentHash: string;
  readonly receivedHash: string;
  readonly receivedBytes: number;
}

/**
 * Sends `totalBytes` of fresh random bytes to an echo and takes as many back. Neither end is closed before both counts are reached, so
 * that it works on transports without half-close.
 */
export async function echoThrough(stream: Duplex, totalBytes: number): Promise<EchoResult> {
  const sent = createHash('sha256');
  const received = createHash('sha256');
  const [, receivedBytes] = await Promise.all([send(stream, totalBytes, sent), receive(stream, totalBytes, received)]);
  stream.destroy();
  return { sentHash: sent.digest('hex'), receivedHash: received.digest('hex'), receivedBytes };
}

async function send(stream: Duplex, totalBytes: number, hash: Hash): Promise<void> {
  for (let left = totalBytes; left > 0; ) {
    const chunk = randomBytes(Math.min(left, CHUNK_BYTES));
    hash.update(chunk);
    left -= chunk.length;
    if (!stream.write(chunk)) await once(stream, 'drain');
  }
}

async function receive(stream: Duplex, totalBytes: number, hash: Hash): Promise<number> {
  const done = Promise.withResolvers<number>();
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
    if (bytes >= totalBytes) done.resolve(bytes);
  });
  stream.once('end', () => done.reject(new Error(`the echo ended after ${bytes} of ${totalBytes} bytes`)));
  stream.once('error', done.reject);
  return done.promise;
}

/**
 * As `echoThrough`, with never more than `stepBytes` on their way: for vhost-device-vsock 0.3.0, which sends nothing more to its host on a
 * connection that was not read from for a while once its buffers were full (tried; without any line in between, too).
 */
export async function echoInSteps(stream: Duplex, totalBytes: number, stepBytes: number): Promise<EchoResult> {
  const sent = createHash('sha256');
  const received = createHash('sha256');
  let [sentBytes, receivedBytes] = [0, 0];
  const step = async (): Promise<void> => {
    const bytes = Math.min(stepBytes, totalBytes - sentBytes);
    sentBytes += bytes;
    await send(stream, bytes, sent);
  };
  await step();
  for await (const chunk of stream) {
    received.update(chunk);
    receivedBytes += chunk.length;
    if (receivedBytes >= totalBytes) break;
    if (receivedBytes === sentBytes) await step();
  }
  stream.destroy();
  return { sentHash: sent.digest('hex'), receivedHash: received.digest('hex'), receivedBytes };
}
