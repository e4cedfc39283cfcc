/** A line with many calls on it asks now and then whether they have been read, and was cut for asking too often. */
import { expect, it } from 'vitest';
import { LineServer } from '../support/line-pair.ts';

it('a line that carries nothing but calls, many and long ones, stays up', { timeout: 60_000 }, async () => {
  await using server = await LineServer.start(() => ({ onRequest: async (_method, params) => params }));
  const line = await server.dial('/', {
    onRequest: async () => {
      throw new Error('nobody calls this side');
    },
  });
  const text = 'x'.repeat(20_000);
  for (let round = 0; round < 40; round++) {
    await Promise.all(Array.from({ length: 20 }, () => line.peer.call('echo', { text })));
  }
  expect(line.mux.closedWith).toBeUndefined();
});
