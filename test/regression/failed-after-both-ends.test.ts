/**
 * Symptom: a program, or `fairlead connect`, that had sent its request to the end and had read the answer to its end waited for ever, without
 * an error, when the guest then closed with some of the request unread (a server that answers 413). Likewise the host kept a stream, its window and its
 * place for ever when a local program of `fairlead forward` had gone with the end of the answer unread.
 * Cause: what was taken from a stream to be passed on counts as consumed once it is gone. By then Node had closed the stream, since both its ends
 * were said, so that to destroy it with the failure did nothing. And `abort()` of a writer of the web does not reach its sink while `close()` waits.
 */
import { Duplex } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { webStream } from '../../client/web-stream.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { channelDuplex, joinDuplex } from '../../shared/node/channel-duplex.ts';
import { openChannels, runTurns } from '../support/mux-pair.ts';

test.each([128 * 1024, 1])(
  'a guest that fails after both ends with input untaken is an error for its operator (%d)',
  async (held) => {
    const { pair, near, far } = await openChannels();
    const guest = new Duplex({ read() {}, write() {}, writableHighWaterMark: held });
    guest.push('413');
    guest.push(null);
    const joined = joinDuplex(channelDuplex(far, { deliversEnd: true }), guest).catch((error: Error) => error.message);
    const operator = channelDuplex(near);
    const failed = new Promise((resolve) => operator.once('error', resolve));
    operator.resume().end(new Uint8Array(10_000));
    await runTurns(pair, 10);
    expect(operator.readableEnded).toBe(true);
    guest.destroy(new Error('the guest has closed'));
    await runTurns(pair, 10);
    expect(await joined).toBe('the guest has closed');
    expect(operator.destroyed).toBe(true);
    expect(await failed).toMatchObject({ code: 'STREAM_RESET' });
    expect([pair.dialer.processPool.usedBytes, pair.acceptor.processPool.usedBytes]).toEqual([0, 0]);
  },
);

test('a local program that goes with the end of the answer unread leaves nothing open', async () => {
  const { pair, near, far } = await openChannels();
  const guest = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  guest.push(new Uint8Array(10_000));
  guest.push(null);
  const carried = joinDuplex(channelDuplex(far, { deliversEnd: true }), guest).catch(() => 'failed');
  const local = new Duplex({ read() {}, write() {} });
  local.push('GET');
  local.push(null);
  const joined = joinDuplex(local, channelDuplex(near)).catch(() => 'failed');
  await runTurns(pair, 10);
  local.destroy(new Error('the program has gone'));
  await runTurns(pair, 10);
  expect([pair.dialer.processPool.usedBytes, pair.acceptor.processPool.usedBytes]).toEqual([0, 0]);
  expect(await Promise.all([joined, carried])).toEqual(['failed', 'failed']);
});

test.each([128 * 1024, 1])('an operator that goes after both ends leaves no stuck guest behind (%d)', async (held) => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { pair, near, far } = await openChannels();
  const guest = new Duplex({ read() {}, write() {}, writableHighWaterMark: held });
  guest.push('413');
  guest.push(null);
  const joined = joinDuplex(channelDuplex(far, { deliversEnd: true }), guest, { lingerMs: 60_000 }).catch(() => 'failed');
  channelDuplex(near)
    .on('error', () => {})
    .resume()
    .end(new Uint8Array(10_000));
  await runTurns(pair, 10);
  near.reset(RESET_CODES.CANCELLED, 'the operator is gone');
  await runTurns(pair, 10);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(guest.destroyed).toBe(true);
  expect(await joined).toBe('failed');
});

test('a writer of the web can be given up while its close waits', async () => {
  const { pair, near } = await openChannels();
  const writer = webStream(near).writable.getWriter();
  await writer.write(new Uint8Array(1000));
  const closed = writer.close().catch((error: Error) => error.message);
  await runTurns(pair, 5);
  const aborted = writer.abort(new Error('enough')).catch(() => {});
  await runTurns(pair, 5);
  expect(pair.dialer.processPool.usedBytes).toBe(0);
  expect(await closed).toContain('enough');
  await aborted;
});
