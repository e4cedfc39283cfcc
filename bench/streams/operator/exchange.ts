/** Bytes to and fro on a stream whose other end sends back what it gets. */
import type { Duplex } from 'node:stream';

const exchanges = new WeakMap<Duplex, Promise<void>>();

/** Writes `request` and waits until as many bytes have come back. Exchanges on one stream take turns. */
export function exchange(stream: Duplex, request: Buffer): Promise<void> {
  const before = exchanges.get(stream) ?? Promise.resolve();
  const own = before.then(() => exchangeAlone(stream, request));
  exchanges.set(stream, own);
  return own;
}

function exchangeAlone(stream: Duplex, request: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let missing = request.length;
  const onData = (chunk: Buffer): void => {
    missing -= chunk.length;
    if (missing <= 0) resolve();
  };
  const onClose = (): void => reject(new Error('the stream closed before its answer came'));
  stream.on('data', onData);
  stream.once('close', onClose);
  stream.write(request);
  return promise.finally(() => {
    stream.off('data', onData);
    stream.off('close', onClose);
  });
}
