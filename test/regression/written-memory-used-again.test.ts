/**
 * Symptom: who wrote from one buffer again and again, each time after the write before it was done, as a socket of Node allows it, sent
 * bytes that it had not written: silently, where the other end could not tell.
 * Cause: what is written is kept until the other end has it, and was kept where its writer had it. Of the streams of the web a copy was made,
 * but not of a Buffer, whose `slice` copies nothing. And what was no bytes at all (a string, written by a page) closed the whole line.
 */
import { describe, expect, test } from 'vitest';
import { connect as connectBrowser } from '../../client/browser.ts';
import { connect } from '../../client/index.ts';
import { startFakeFleet } from '../support/fake-fleet.ts';

const PIECE_BYTES = 16 * 1024;
const PIECES = 32;

/** Each piece is of another byte. */
const EXPECTED = Buffer.concat(Array.from({ length: PIECES }, (_, fill) => Buffer.alloc(PIECE_BYTES, fill + 1)));

/** From one memory, each piece once the one before it was taken. */
async function writeAll(write: (bytes: Buffer) => Promise<void>): Promise<void> {
  const memory = Buffer.alloc(PIECE_BYTES);
  for (let fill = 1; fill <= PIECES; fill += 1) await write(memory.fill(fill));
  memory.fill(0xff);
}

describe('memory that is used again after its write was done', () => {
  test('has been sent as it was, by a Duplex', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connect(fleet.url, fleet.token);
    const stream = await hub.openStream('web', 7);
    const answer = stream.toArray();
    await writeAll(
      (bytes) =>
        new Promise((resolve, reject) => {
          stream.write(bytes, (error) => (error ? reject(error) : resolve()));
        }),
    );
    stream.end();
    expect(Buffer.concat(await answer).equals(EXPECTED)).toBe(true);
  });

  test('has been sent as it was, by a stream of the web, also of Buffers', async () => {
    await using fleet = await startFakeFleet();
    await using hub = await connectBrowser(fleet.url, fleet.token);
    const { readable, writable } = await hub.openWebStream('web', 7);
    const answer = Array.fromAsync(readable);
    const writer = writable.getWriter();
    await writeAll((bytes) => writer.write(bytes));
    await writer.close();
    expect(Buffer.concat(await answer).equals(EXPECTED)).toBe(true);
  });
});

test('what is no bytes ends its stream, and no other', async () => {
  await using fleet = await startFakeFleet();
  await using hub = await connectBrowser(fleet.url, fleet.token);
  const [one, other] = await Promise.all([hub.openWebStream('web', 7), hub.openWebStream('web', 7)]);
  // SAFETY: not what it takes, as a page without types may write it.
  await expect(one.writable.getWriter().write('hello' as unknown as Uint8Array)).rejects.toThrow(TypeError);
  await expect(one.readable.getReader().read()).rejects.toMatchObject({ code: 'CANCELLED' });
  const writer = other.writable.getWriter();
  await writer.write(Buffer.from('hello'));
  const { value } = await other.readable.getReader().read();
  expect(Buffer.from(value ?? []).toString()).toBe('hello');
  await writer.abort();
});
