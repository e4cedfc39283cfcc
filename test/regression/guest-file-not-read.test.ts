/**
 * Symptom: `fairlead cp VM:/FILE MISSING/DIRECTORY/` ended with the stack of an unhandled 'error' event, and so did any program that asked for a
 * file of a guest and did not come to read it before its line was closed.
 * Cause: the stream of a file had no listener before the first chunk was asked for, and was left open by who asked for none.
 */
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { readFrom } from '../../client/guest-files.ts';
import { FairleadError } from '../../shared/errors.ts';

test('a file whose stream is reset before it is read fails when it is', async () => {
  const stream = new PassThrough();
  const { chunks } = readFrom(stream, 4);
  stream.destroy(new FairleadError('INTERRUPTED', 'the line is gone'));
  // The event comes in a turn of its own.
  await new Promise((resolve) => setImmediate(resolve));
  await expect(chunks[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'INTERRUPTED' });
});

test('a file that is left unread leaves no stream', async () => {
  const stream = new PassThrough();
  const { chunks } = readFrom(stream, 4);
  await chunks[Symbol.asyncIterator]().return?.();
  expect(stream.destroyed).toBe(true);
});
