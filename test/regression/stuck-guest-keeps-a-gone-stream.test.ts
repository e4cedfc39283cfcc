/**
 * Symptom: what an operator had said to its end was dropped on the last few steps to its guest when the operator was gone; or a stream whose operator had ended its half and was gone stayed open in the agent, with its window and its connection into the
 * guest, for as long as the guest took nothing.
 * Cause: what came before an operator's end waited to be read for as long as that took, and what had been read was not waited for at all.
 */
import { Duplex } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { channelDuplex, joinDuplex } from '../../shared/node/channel-duplex.ts';
import { openChannels, runTurns } from '../support/mux-pair.ts';

const READS_ON_MS = 60_000;

/** What waits for the guest is in its own buffer, or still to be read for it. */
test.each([128 * 1024, 1])('a guest that takes nothing is given up some time after its operator is gone (%d)', async (held) => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { pair, near, far } = await openChannels();
  const guest = new Duplex({ read() {}, write() {}, writableHighWaterMark: held });
  const end = channelDuplex(far, { deliversEnd: true, readsOnMs: READS_ON_MS });
  const joined = joinDuplex(end, guest, { lingerMs: READS_ON_MS });
  const outcome = joined.catch((error: Error) => error.message);
  near.write(new Uint8Array(60_000));
  near.end();
  await runTurns(pair, 10);
  near.reset(RESET_CODES.CANCELLED, 'the operator is gone');
  await runTurns(pair, 10);
  await vi.advanceTimersByTimeAsync(READS_ON_MS - 1);
  expect(guest.destroyed).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(await outcome).toContain('the operator is gone');
  expect(guest.destroyed).toBe(true);
  expect(pair.acceptor.processPool.usedBytes).toBe(0);
});

test('what an operator had said to its end reaches the guest, though the operator is gone by then', async () => {
  const { pair, near, far } = await openChannels();
  const taken: (() => void)[] = [];
  let [bytes, hasEnded] = [0, false];
  const guest = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      taken.push(done);
    },
    final(done) {
      hasEnded = true;
      done();
    },
  });
  const joined = joinDuplex(channelDuplex(far, { deliversEnd: true }), guest, { halfClose: false, lingerMs: READS_ON_MS });
  const outcome = joined.catch((error: Error) => error.message);
  for (let chunk = 0; chunk < 3; chunk += 1) near.write(new Uint8Array(16_384));
  near.end();
  await runTurns(pair, 10);
  near.reset(RESET_CODES.CANCELLED, 'the operator is gone');
  await runTurns(pair, 10);
  for (let done = taken.shift(); done !== undefined; done = taken.shift()) {
    done();
    await runTurns(pair, 2);
  }
  expect(await outcome).toContain('the operator is gone');
  expect({ bytes, hasEnded }).toEqual({ bytes: 3 * 16_384, hasEnded: true });
});
