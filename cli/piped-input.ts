/** What is piped into a command. */
import { FairleadError } from '../shared/errors.ts';
import type { App } from './app.ts';

/** Chunks to the end of standard input. @throws FairleadError CANCELLED when the command is interrupted, whatever its input */
export function pipedInput({ streams: { stdin }, signal }: App): AsyncGenerator<Buffer, void, undefined> {
  return untilInterrupted(buffersOf(stdin), signal);
}

async function* buffersOf(stream: NodeJS.ReadableStream): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of stream) yield Buffer.from(chunk);
}

/** The same chunks. @throws FairleadError CANCELLED when the command is interrupted, also while it waits for one */
export async function* untilInterrupted<Chunk>(
  chunks: AsyncIterable<Chunk>,
  signal: AbortSignal,
): AsyncGenerator<Chunk, void, undefined> {
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(new FairleadError('CANCELLED', 'the command was interrupted'));
  interrupted.catch(() => {});
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), interrupted]);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    if (signal.aborted) void iterator.return?.();
  }
}
