/** The whole minute of what test/integration/hub-time-faults.test.ts has two seconds of. */
import { expect, it } from 'vitest';
import { stopWriterFor } from '../support/stopped-writer.ts';

it('a process that writes the store and is stopped for 60 s goes on, and has each acknowledged write once', async () => {
  const { acknowledged, failed, notOnce } = await stopWriterFor(60_000);
  expect([failed, notOnce]).toEqual([0, []]);
  expect(acknowledged).toBeGreaterThan(300);
});
