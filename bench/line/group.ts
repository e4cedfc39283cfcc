/** The promises of the line from operator to guest (SPECIFICATION.md states them, docs/reference/benchmarks.md explains each row). */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT_ROOT } from '../../cli/image/cache.ts';
import type { Group } from '../main.ts';
import { agentConnect, agentMemory } from './agent-process.ts';
import { queryStatus } from './query-status.ts';
import { throughput } from './throughput.ts';
import { vmStart } from './vm-start.ts';

export async function lineGroup(): Promise<Group> {
  process.stderr.write('building dist/\n');
  await promisify(execFile)(join(PROJECT_ROOT, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json'], { cwd: PROJECT_ROOT });
  // A short path: sockets of VMs go below it.
  const directory = await mkdtemp(join(tmpdir(), 'flb-'));
  return {
    measurements: [
      vmStart(directory),
      queryStatus(directory),
      throughput(directory),
      agentMemory(directory),
      agentConnect(directory),
    ],
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}
