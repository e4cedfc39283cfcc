/**
 * Symptom: no more than 1,024 streams into the guests of one host could be open at once, whatever `maxStreamsPerHost` and `maxStreamsPerVm` said.
 * Cause: the agent took the mux's default, which it says in HELLO, and the hub let a host resume no more than that.
 */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import { startSplitFleet } from '../support/split-fleet.ts';

const STREAMS = 2_000;

it(`${STREAMS} streams into one host are open at once, outlive a cut of its line, and each goes on as itself`, async () => {
  await using fleet = await startSplitFleet();
  const open = async (): Promise<Duplex> =>
    (await fleet.operator.openStream({ vm: 'web', port: 7, connectTimeoutMs: 60_000 })).stream;
  const streams = await Promise.all(Array.from({ length: STREAMS }, open));
  const echoes = async (word: string): Promise<string[]> =>
    Promise.all(
      streams.map(async (stream, index) => {
        stream.write(`${word} ${index}`);
        const [chunk] = await once(stream, 'data');
        return String(chunk);
      }),
    );
  const expected = (word: string): string[] => streams.map((_, index) => `${word} ${index}`);
  expect(await echoes('first')).toEqual(expected('first'));
  const cut = fleet.far.cutAfter(100);
  const again = echoes('again');
  await cut;
  expect(await again).toEqual(expected('again'));
  for (const stream of streams) stream.destroy();
});
