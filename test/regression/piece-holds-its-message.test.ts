/**
 * What waits for a slow reader counts with its own length. A piece of 2 KiB kept the whole message alive that it had come in, of up to 256 KiB:
 * a hub with 1 MiB waiting by its own account had 128.
 */
import { expect, it } from 'vitest';
import { ByteQueue } from '../../shared/mux/byte-queue.ts';
import { FRAME, newFrame, readFrame } from '../../shared/mux/frame.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { SendSide } from '../../shared/mux/send-side.ts';

const MESSAGE_BYTES = 256 * 1024;
const FULL_MESSAGE_BYTES = 65_400;

/** The payload of the first frame of a message, filled with `fill`. */
function arrived(bytes: number, messageBytes: number, fill: number): Uint8Array {
  const message = new Uint8Array(messageBytes);
  message.set(newFrame(FRAME.DATA, 0, bytes, 1));
  return readFrame(message, 0).payload.fill(fill);
}

/** Of all memory that the chunks keep alive. */
function heldBytes(chunks: readonly Uint8Array[]): number {
  return [...new Set(chunks.map(({ buffer }) => buffer))].reduce((sum, { byteLength }) => sum + byteLength, 0);
}

function drain(queue: ByteQueue): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let chunk = queue.shift(MESSAGE_BYTES); chunk !== undefined; chunk = queue.shift(MESSAGE_BYTES)) chunks.push(chunk);
  return chunks;
}

it.each([1, 500, 2047, 2048, 5000, 16_384, 50_000])('pieces of %i bytes hold no more than some times their length', (bytes) => {
  const queue = new ByteQueue();
  for (let count = 0; count < 64; count++) queue.push(arrived(bytes, MESSAGE_BYTES, count));
  const waiting = queue.length;
  const chunks = drain(queue);
  const pushed = Buffer.concat(Array.from({ length: 64 }, (_, fill) => Buffer.alloc(bytes, fill)));
  expect(Buffer.concat(chunks).equals(pushed)).toBe(true);
  // And the slab that small ones share.
  expect(heldBytes(chunks)).toBeLessThanOrEqual(6 * waiting + 8192);
});

it('full frames of a full message are left where they are', () => {
  const queue = new ByteQueue();
  const frame = arrived(16_384, FULL_MESSAGE_BYTES, 1);
  queue.push(frame);
  expect(drain(queue)[0]?.buffer).toBe(frame.buffer);
});

it('a relay sends a piece that it had to copy as it came', () => {
  const side = new SendSide(3, 64 * 1024, new MemoryPool(1024 * 1024));
  side.keepNothing();
  for (const fill of [1, 2, 3]) side.push(arrived(4096, MESSAGE_BYTES, fill), false);
  for (const fill of [1, 2, 3]) {
    const parts: Uint8Array[] = [];
    side.pull(parts, 16 * 1024, 16 * 1024);
    const { payload, streamId } = readFrame(new Uint8Array(Buffer.concat(parts)), 0);
    expect(streamId).toBe(3);
    expect(Buffer.from(payload)).toEqual(Buffer.alloc(4096, fill));
  }
});
