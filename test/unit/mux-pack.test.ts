/** What one message of bulk data is: long enough, not too long, and without scraps. */
import { expect, test } from 'vitest';
import { FRAME } from '../../shared/mux/frame.ts';
import { MESSAGE_BYTES, SCRAP_BYTES } from '../../shared/mux/limits.ts';
import { framesOf, MuxPair, Recorder } from '../support/mux-pair.ts';

const CREDIT = 4 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const FRAME_BYTES = 16 * 1024;

interface Sent {
  readonly bytes: number;
  /** Of the payloads. */
  readonly payloads: readonly number[];
}

/** Messages that a stream with so many chunks of 64 KiB makes. */
function messagesOf(chunks: number, { relays = false, maxMessageBytes = 256 * 1024 } = {}): Sent[] {
  const pair = new MuxPair({ acceptor: { limits: { maxMessageBytes } } });
  const recorder = new Recorder();
  const stream = pair.dialer.session.open({}, relays ? Object.assign(recorder, { relays: true as const }) : recorder, CREDIT);
  pair.run();
  const offer = pair.acceptor.offers.at(-1);
  offer?.stream.attach(new Recorder());
  offer?.stream.accept({}, CREDIT);
  pair.run();
  for (let chunk = 0; chunk < chunks; chunk++) {
    if (!relays) stream.send(new Uint8Array(CHUNK_BYTES));
    // As they come out of a message, with room for a header before each.
    else for (const bytes of [FRAME_BYTES, FRAME_BYTES, FRAME_BYTES, 16_200]) stream.send(new Uint8Array(8 + bytes).subarray(8));
  }
  const messages: Sent[] = [];
  for (
    let parts = pair.dialer.session.pull(MESSAGE_BYTES);
    parts !== undefined;
    parts = pair.dialer.session.pull(MESSAGE_BYTES)
  ) {
    const message = new Uint8Array(Buffer.concat(parts));
    const payloads = framesOf(message).flatMap(({ type, payload }) => (type === FRAME.DATA ? [payload.length] : []));
    messages.push({ bytes: message.length, payloads });
  }
  return messages;
}

test('a message of bulk data is cut where one packet of loopback ends', () => {
  const messages = messagesOf(16);
  expect(messages.reduce((sum, { payloads }) => sum + payloads.reduce((a, b) => a + b, 0), 0)).toBe(16 * CHUNK_BYTES);
  for (const { bytes, payloads } of messages.slice(0, -1)) {
    expect(bytes).toBe(MESSAGE_BYTES);
    expect(payloads.slice(0, -1)).toEqual([FRAME_BYTES, FRAME_BYTES, FRAME_BYTES]);
  }
});

test('what is a little longer than a message is one all the same', () => {
  expect(messagesOf(1)).toEqual([{ bytes: 4 * (8 + FRAME_BYTES), payloads: Array.from({ length: 4 }, () => FRAME_BYTES) }]);
  for (const { bytes } of messagesOf(2)) expect(bytes).toBeLessThanOrEqual(MESSAGE_BYTES + SCRAP_BYTES);
});

test('a relay sends the frames that it got, as many as a message holds', () => {
  const messages = messagesOf(3, { relays: true });
  expect(messages.map(({ payloads }) => payloads)).toEqual(
    Array.from({ length: 3 }, () => [FRAME_BYTES, FRAME_BYTES, FRAME_BYTES, 16_200]),
  );
});

test('a message and a PING behind it are no longer than what the other side takes', () => {
  const messages = messagesOf(2, { maxMessageBytes: 8192 });
  expect(Math.max(...messages.map(({ bytes }) => bytes))).toBeLessThanOrEqual(8192 - 16);
  expect(messages.flatMap(({ payloads }) => payloads).reduce((a, b) => a + b, 0)).toBe(2 * CHUNK_BYTES);
});
