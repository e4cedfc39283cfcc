/**
 * Symptom: a program that waited for all it wrote to be finished (`pipeline`, 'finish', `close()` of a stream of the web) and closed its
 * connection to the hub lost the last 64 KiB and more, and had been told that all was well.
 * Cause: a stream was finished as soon as its end was queued. And END, which is what a stream could have waited for, said only that the
 * agent had the bytes, which then went with the operator's line.
 */
import { Duplex, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, test } from 'vitest';
import { connect as connectBrowser } from '../../client/browser.ts';
import { connect } from '../../client/index.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import { type FakeFleet, startFakeFleet } from '../support/fake-fleet.ts';
import { openChannels, runTurns } from '../support/mux-pair.ts';

const CHUNK_BYTES = 64 * 1024;
const CHUNKS = 64;
const CHUNK = Buffer.alloc(CHUNK_BYTES);

/** A guest that takes a chunk a turn. Resolves with what it had got when it was closed. */
function countingGuest(fleet: FakeFleet, take: (done: () => void) => void = setImmediate): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  let got = 0;
  fleet.vms.openStream = async () => {
    const stream = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        got += chunk.length;
        take(done);
      },
      destroy(error, done) {
        resolve(got);
        done(error);
      },
    });
    return { stream, transport: 'vhost-vsock', halfClose: true, generation: 1 };
  };
  return promise;
}

describe('what is finished has been taken by the guest, though the connection is closed at once', () => {
  test('of a Duplex', async () => {
    await using fleet = await startFakeFleet();
    const got = countingGuest(fleet);
    await using hub = await connect(fleet.url, fleet.token);
    const stream = await hub.openStream('web', 7);
    stream.on('error', () => {});
    await pipeline(Readable.from(Array.from({ length: CHUNKS }, () => CHUNK)), stream);
    await hub[Symbol.asyncDispose]();
    expect(await got).toBe(CHUNKS * CHUNK_BYTES);
  });

  test('of a stream of the web', async () => {
    await using fleet = await startFakeFleet();
    const got = countingGuest(fleet);
    await using hub = await connectBrowser(fleet.url, fleet.token);
    const { writable } = await hub.openWebStream('web', 7);
    const writer = writable.getWriter();
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) await writer.write(CHUNK);
    await writer.close();
    await hub[Symbol.asyncDispose]();
    expect(await got).toBe(CHUNKS * CHUNK_BYTES);
  });
});

describe('a connection that is closed', () => {
  test('lets what was ended arrive first', async () => {
    await using fleet = await startFakeFleet();
    const got = countingGuest(fleet);
    {
      await using hub = await connect(fleet.url, fleet.token);
      const stream = await hub.openStream('web', 7);
      stream.on('error', () => {});
      stream.end(Buffer.alloc(CHUNKS * CHUNK_BYTES));
    }
    expect(await got).toBe(CHUNKS * CHUNK_BYTES);
  });

  test('does not wait for ever for a guest that takes nothing, and says so', async () => {
    await using fleet = await startFakeFleet();
    void countingGuest(fleet, () => {});
    const hub = await connect(fleet.url, fleet.token);
    const stream = await hub.openStream('web', 7);
    const failed = new Promise((resolve) => stream.once('error', resolve));
    stream.end(CHUNK);
    await hub[Symbol.asyncDispose]();
    expect(await failed).toMatchObject({ code: 'INTERRUPTED' });
  });
});

describe('what the other end has not consumed is not finished', () => {
  test('and fails with the reset, where the other end has ended and nobody reads that', async () => {
    const { pair, near, far } = await openChannels();
    const duplex = channelDuplex(near);
    const finished = pipeline(Readable.from([CHUNK]), duplex);
    far.write(CHUNK);
    far.end();
    await runTurns(pair, 10);
    far.reset(RESET_CODES.RESET, 'the guest is gone');
    pair.run();
    await expect(finished).rejects.toThrow('the guest is gone');
  });

  test('though it is ended after that reset', async () => {
    const { pair, near, far } = await openChannels();
    const duplex = channelDuplex(near);
    far.write(CHUNK);
    far.end();
    await runTurns(pair, 10);
    far.reset(RESET_CODES.RESET, 'the guest is gone');
    pair.run();
    await expect(pipeline(Readable.from([CHUNK]), duplex)).rejects.toThrow('the guest is gone');
  });

  test('and a reader has all that came before the reset', async () => {
    const { pair, near, far } = await openChannels();
    const duplex = channelDuplex(near);
    const failed = new Promise((resolve) => duplex.once('error', resolve));
    let [read, finished] = [0, false];
    duplex.on('data', (chunk: Buffer) => {
      read += chunk.length;
    });
    duplex.once('finish', () => {
      finished = true;
    });
    duplex.end(CHUNK);
    far.write(CHUNK);
    far.end();
    await runTurns(pair, 10);
    far.reset(RESET_CODES.RESET, 'the guest is gone');
    await runTurns(pair, 10);
    expect(await failed).toMatchObject({ code: 'STREAM_RESET' });
    expect({ read, finished }).toEqual({ read: CHUNK_BYTES, finished: false });
  });
});
