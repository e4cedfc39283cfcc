/** What is piped into a command. */
import { FairleadError } from '../shared/errors.ts';
import type { App } from './app.ts';

/** Chunks to the end of standard input. @throws FairleadError CANCELLED when the command is interrupted, whatever its input */
export async function* pipedInput({ streams: { stdin }, signal }: App): AsyncGenerator<Buffer, void, undefined> {
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  interrupted.catch(() => {});
  const abort = (): void => reject(new FairleadError('CANCELLED', 'the command was interrupted'));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  const iterator = stdin[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), interrupted]);
      if (next.done === true) return;
      yield Buffer.from(next.value);
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
