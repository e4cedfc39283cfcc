/**
 * Symptom: a thousand streams into guests that read nothing made an agent grow by 230 MB and more, where its session promises 64 MiB.
 * Cause: credit was given back for what Node's streams took over, up to 128 KiB on top of each window; and windows that were never given
 * back left the others no room to grow.
 */
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { channelDuplex, joinDuplex } from '../../shared/node/channel-duplex.ts';
import { openChannels, runTurns } from '../support/mux-pair.ts';

const KIB = 1024;
const SENT_BYTES = 1024 * KIB;

test('an end whose guest reads nothing takes over no more than its window, and all of it once it reads', async () => {
  const { pair, near, far } = await openChannels();
  let [heldUp, read]: [(() => void)[] | undefined, number] = [[], 0];
  const guest = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      read += chunk.length;
      if (heldUp === undefined) done();
      else heldUp.push(done);
    },
  });
  const joined = joinDuplex(channelDuplex(far), guest);
  const settle = () => runTurns(pair, 100);
  near.write(new Uint8Array(SENT_BYTES));
  await settle();
  expect(SENT_BYTES - near.writableBytes).toBe(64 * KIB);

  const waiting = heldUp ?? [];
  heldUp = undefined;
  for (const done of waiting) done();
  near.end();
  await settle();
  expect({ read, left: near.writableBytes }).toEqual({ read: SENT_BYTES, left: 0 });
  far.reset(1, 'the test is over');
  await expect(joined).rejects.toThrow('the test is over');
});
