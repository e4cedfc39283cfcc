/** Standard input and output joined to a stream, for one command's life. */
import type { Duplex } from 'node:stream';
import { FairleadError } from '../shared/errors.ts';
import type { App } from './app.ts';

/**
 * Settles when the guest has closed its side and everything it sent is written out; rejects when the stream is reset, or the command
 * interrupted. Without `idleTimeoutMs` the end of input is passed on; with it, the transport cannot do that: the guest has so long
 * after the end of input, anew with each byte of its own and each time it has taken some of the input. Input that it does not take is
 * never given up in silence: that is a TIMEOUT. With 0 there is no waiting: whoever asked has gone.
 */
export async function joinTerminal(app: App, stream: Duplex, idleTimeoutMs: number | undefined): Promise<void> {
  const { stdin, stdout } = app.streams;
  const ended = Promise.withResolvers<void>();
  let idle: NodeJS.Timeout | undefined;
  let unsentBytes = 0;
  const onIdle = (idleMs: number): void => {
    const { writableLength } = stream;
    if (writableLength === 0 || idleMs === 0) return ended.resolve();
    const isStuck = writableLength === unsentBytes;
    unsentBytes = writableLength;
    if (!isStuck) return void idle?.refresh();
    const what = `the guest took no more for ${idleMs} ms, and ${unsentBytes} bytes of the input are not sent`;
    ended.reject(new FairleadError('TIMEOUT', `${what}: see whether it reads, or give it longer with --idle-timeout`));
  };
  const abort = (): void => ended.reject(new FairleadError('CANCELLED', 'the connection was interrupted'));

  stream.on('error', ended.reject);
  stdout.on('error', ended.reject);
  stream.on('end', () => ended.resolve());
  stream.on('close', () => ended.resolve());
  stream.pipe(stdout, { end: false });
  stream.on('data', () => idle?.refresh());
  stdin.pipe(stream, { end: false });
  stdin.on('end', () => {
    if (idleTimeoutMs === undefined) stream.end();
    else idle = setTimeout(onIdle, idleTimeoutMs, idleTimeoutMs);
  });
  app.signal.addEventListener('abort', abort, { once: true });
  try {
    await ended.promise;
  } finally {
    clearTimeout(idle);
    app.signal.removeEventListener('abort', abort);
    stdin.unpipe(stream);
    stream.unpipe(stdout);
    stdin.pause();
    stream.destroy();
  }
}
