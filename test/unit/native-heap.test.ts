import { expect, test } from 'vitest';
import { describeNative } from '../support/native.ts';

describeNative('trimHeap', (api) => {
  test('gives back what the C library keeps free, however often it is asked', () => {
    expect([api.trimHeap(), api.trimHeap()]).toEqual([expect.any(Boolean), expect.any(Boolean)]);
  });
});
