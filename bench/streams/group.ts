/** Streams beside those of others: docs/reference/benchmarks.md explains each row. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Group } from '../main.ts';
import { CONTENDERS } from './contenders.ts';
import { besideBulk, cut, opening, stalled, throughput } from './contests.ts';
import { installPeers } from './peers/installed.ts';
import { behindInBoth } from './verdict.ts';

const BULK = [1, 16, 64] as const;

export async function streamsGroup(): Promise<Group> {
  await installPeers();
  for (const { name, settings } of CONTENDERS) process.stderr.write(`${name}: ${settings}\n`);
  // A short path: sockets go below it.
  const directory = await mkdtemp(join(tmpdir(), 'fls-'));
  return {
    measurements: [
      throughput(directory, 1),
      throughput(directory, 64),
      opening(directory),
      ...BULK.map((streams) => besideBulk(directory, streams, 'unlimited')),
      ...BULK.map((streams) => besideBulk(directory, streams, '100 Mbit/s')),
      stalled(directory),
      cut(directory),
    ],
    conclude: behindInBoth,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
