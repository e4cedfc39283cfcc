/**
 * Brings a file to the hub as an image: its digest first, then the bytes that the hub does not have yet. What broke off is gone on with, over
 * as many lines as it takes.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { FairleadError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/protocol/image-ref.ts';
import { PushedImage } from '../../shared/protocol/methods-image.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { HubConnection } from '../connection.ts';

export interface LocalImage {
  readonly path: string;
  readonly digest: Digest;
  readonly bytes: number;
}

type Count = (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

/** @throws FairleadError NOT_FOUND for a file that cannot be read */
export async function readImage(path: string, count: Count = (chunks) => chunks): Promise<LocalImage> {
  try {
    const { size } = await stat(path);
    const hash = createHash('sha256');
    for await (const chunk of count(createReadStream(path))) hash.update(chunk);
    return { path, digest: `sha256:${hash.digest('hex')}`, bytes: size };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FairleadError('NOT_FOUND', `could not read ${path}: ${why}`, { cause });
  }
}

/** One attempt. @throws FairleadError what the hub refuses it with; INTERRUPTED or STREAM_RESET where another may go on */
export async function pushImage(
  hub: HubConnection,
  { path, digest, bytes }: LocalImage,
  { signal, count = (chunks) => chunks }: { readonly signal: AbortSignal; readonly count?: Count | undefined },
): Promise<{ readonly sentBytes: number }> {
  const { stream, opened } = await hub.open('image.push', { digest, bytes }, { signal });
  const onAbort = (): void => void stream.destroy(new FairleadError('CANCELLED', 'the push was interrupted'));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    // It ends with the hub's answer; a reset rejects both.
    const answered = text(stream);
    answered.catch(() => {});
    await pipeline(count(Readable.from(createReadStream(path, { start: opened.offset }))), stream);
    const said: unknown = JSON.parse(await answered);
    parseWith(PushedImage, said, 'image.push', 'PROTOCOL_ERROR');
    return { sentBytes: bytes - opened.offset };
  } finally {
    signal.removeEventListener('abort', onAbort);
    stream.destroy();
  }
}
