/**
 * Symptom: a hub that opened streams side by side had more of them into a guest than the host allows (`maxStreamsPerVm`).
 * Cause: only those that were open already were counted, and an opening takes a while.
 */
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { StreamRegistry } from '../../agent/vm/stream-registry.ts';

test('streams that are being opened count', () => {
  const streams = new StreamRegistry();
  const max = 2;
  const first = streams.reserve(max);
  const second = streams.reserve(max);
  expect(first).toBeDefined();
  expect(second).toBeDefined();
  expect(streams.reserve(max)).toBeUndefined();

  // The first opens, the second fails.
  streams.add(new PassThrough());
  first?.[Symbol.dispose]();
  second?.[Symbol.dispose]();

  expect(streams.reserve(max)).toBeDefined();
  expect(streams.reserve(max)).toBeUndefined();
});
