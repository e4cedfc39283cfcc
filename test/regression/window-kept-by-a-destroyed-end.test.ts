/**
 * Symptom: after some thousand streams that were given up with something unread a web page got no other (LIMIT_EXCEEDED, with none open), and
 * agents and programs had small windows only for as long as they lived.
 * Cause: memory of a window is given back when all that came has been read. Once both ends were said, to reset the channel did nothing, so
 * a Duplex that was destroyed with something unread kept its window for as long as the process lived.
 */
import { describe, expect, test } from 'vitest';
import { webStream } from '../../client/web-stream.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import { openChannels, runTurns } from '../support/mux-pair.ts';

/** Both ends of a stream; what came for `far` waits to be read. */
async function channels() {
  const { pair, near, far } = await openChannels();
  const settle = () => runTurns(pair, 10);
  const say = (): void => {
    near.write(new Uint8Array(50_000));
    near.end();
  };
  const kept = (): number => pair.acceptor.processPool.usedBytes;
  return { near, far, settle, say, kept };
}

describe('an end that goes with something unread gives its window back', () => {
  test.each([
    ['both ends were said', false],
    ['both ends were said, and its last word was to wait for that', true],
  ])('a Duplex, after %s', async (_, deliversEnd) => {
    const { far, settle, say, kept } = await channels();
    const duplex = channelDuplex(far, { deliversEnd });
    duplex.on('error', () => {});
    duplex.end();
    say();
    await settle();
    duplex.destroy(new Error('the guest is gone'));
    await settle();
    expect(kept()).toBe(0);
  });

  test('a Duplex, after the other end said its end and was gone', async () => {
    const { near, far, settle, say, kept } = await channels();
    const duplex = channelDuplex(far, { deliversEnd: true });
    duplex.on('error', () => {});
    say();
    await settle();
    near.reset(RESET_CODES.CANCELLED, '');
    await settle();
    duplex.end();
    duplex.destroy(new Error('the guest is gone'));
    await settle();
    expect(kept()).toBe(0);
  });

  test('a Duplex, when the other end is gone before its last word', async () => {
    const { near, far, settle, say, kept } = await channels();
    const duplex = channelDuplex(far, { deliversEnd: true });
    duplex.on('error', () => {});
    say();
    await settle();
    duplex.write(new Uint8Array(100_000));
    duplex.end();
    await settle();
    duplex.destroy(new Error('the guest is gone'));
    near.reset(RESET_CODES.CANCELLED, '');
    await settle();
    expect(kept()).toBe(0);
  });

  test('the streams of a web page, whose reader cancels', async () => {
    const { far, settle, say, kept } = await channels();
    const { readable, writable } = webStream(far);
    const closed = writable.close();
    say();
    await settle();
    await closed;
    await readable.cancel();
    expect(kept()).toBe(0);
  });
});
