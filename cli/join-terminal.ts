/** Standard input and output joined to a stream, for one command's life. */
import type { Duplex } from 'node:stream';
import { FairleadError } from '../shared/errors.ts';
import type { App } from './app.ts';
import { IdleTimer } from './idle-timer.ts';

/**
 * Settles when the guest has closed its side and everything it sent is written out; rejects when the stream is reset, or the command
 * interrupted. Without `idleTimeoutMs` the end of input is passed on; with it, the transport cannot do that: the guest has so long
 * after the end of input (IdleTimer). With 0 there is no waiting: whoever asked has gone.
 */
export async function joinTerminal(app: App, stream: Duplex, idleTimeoutMs: number | undefined): Promise<void> {
  const { stdin, stdout } = app.streams;
  const ended = Promise.withResolvers<void>();
  const onIdle = (error?: FairleadError): void => (error === undefined ? ended.resolve() : ended.reject(error));
  const idle = idleTimeoutMs === undefined ? undefined : new IdleTimer(stream, idleTimeoutMs, onIdle);
  const abort = (): void => ended.reject(new FairleadError('CANCELLED', 'the connection was interrupted'));

  stream.on('error', ended.reject);
  stdout.on('error', ended.reject);
  stream.on('end', () => ended.resolve());
  stream.on('close', () => ended.resolve());
  stream.pipe(stdout, { end: false });
  stdin.pipe(stream, { end: false });
  stdin.on('end', () => {
    if (idle === undefined) stream.end();
    else if (idleTimeoutMs === 0) ended.resolve();
    else idle.start();
  });
  app.signal.addEventListener('abort', abort, { once: true });
  try {
    await ended.promise;
  } finally {
    idle?.stop();
    app.signal.removeEventListener('abort', abort);
    stdin.unpipe(stream);
    stream.unpipe(stdout);
    stdin.pause();
    stream.destroy();
  }
}
