/** Small pieces that wait together in a relay are copied into one; it was taken for a view of a message, whose header stands before it. */
import { expect, it } from 'vitest';
import { FRAME, newFrame, readFrame } from '../../shared/mux/frame.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { SendSide } from '../../shared/mux/send-side.ts';

const PIECE_BYTES = 1500;

/** The payload of a frame as it comes out of a message. */
function arrived(fill: number): Uint8Array {
  const message = newFrame(FRAME.DATA, 0, PIECE_BYTES, 1);
  message.fill(fill, message.length - PIECE_BYTES);
  return readFrame(message, 0).payload;
}

it('a relay sends small pieces that waited together as they came', () => {
  const side = new SendSide(3, 64 * 1024, new MemoryPool(1024 * 1024));
  side.keepNothing();
  for (const fill of [1, 2, 3, 4]) side.push(arrived(fill), false);
  const sent: number[] = [];
  while (side.hasWork) {
    const parts: Uint8Array[] = [];
    side.pull(parts, 16 * 1024, 16 * 1024);
    const { payload, streamId } = readFrame(new Uint8Array(Buffer.concat(parts)), 0);
    expect(streamId).toBe(3);
    sent.push(...payload);
  }
  const expected = [1, 2, 3, 4].flatMap((fill) => Array.from({ length: PIECE_BYTES }, () => fill));
  expect(sent).toEqual(expected);
});
