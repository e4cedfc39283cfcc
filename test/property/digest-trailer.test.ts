import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { checkDigest, withDigest } from '../../shared/node/digest-trailer.ts';

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  let from = 0;
  for (const to of [...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    yield bytes.subarray(from, to);
    from = to;
  }
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

const CONTENT = fc.uint8Array({ maxLength: 200 });
const CUTS = fc.array(fc.nat(), { maxLength: 8 });

it('a file comes out as it went in, wherever it is cut on the way', async () => {
  await fc.assert(
    fc.asyncProperty(CONTENT, CUTS, CUTS, async (content, before, after) => {
      const sent = await collect(withDigest(chunksOf(content, before)));
      expect(await collect(checkDigest(chunksOf(sent, after)))).toEqual(Buffer.from(content));
    }),
  );
});

it('one that ends early, or of which a bit is another, is never taken for whole', async () => {
  await fc.assert(
    fc.asyncProperty(CONTENT, CUTS, fc.nat(), fc.boolean(), async (content, cuts, at, isCut) => {
      const sent = await collect(withDigest(chunksOf(content, [])));
      const index = at % sent.length;
      const damaged = isCut ? sent.subarray(0, index) : Buffer.from(sent);
      if (!isCut) damaged[index] = (damaged[index] ?? 0) ^ 1;
      await expect(collect(checkDigest(chunksOf(damaged, cuts)))).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    }),
  );
});
