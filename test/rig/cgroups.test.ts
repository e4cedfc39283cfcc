/** Control groups of VMs on a kernel that has them: the program of this folder runs in a VM, as its only owner. */
import { describe, expect, test } from 'vitest';
import { startRig, whyNoRig } from '../support/rig/rig.ts';
import { parseCases } from '../support/vm-cases.ts';

const reason = whyNoRig({ light: true });
if (reason !== undefined) console.log(`skipped: ${reason}`);
const LIMIT_MS = 300_000;

describe.skipIf(reason !== undefined)('VMs of a host with control groups', () => {
  test('are held to what their spec is worth', async () => {
    await using rig = await startRig({ light: true, memoryMebibytes: 2048 });
    const { stdout, stderr, exitCode } = await rig.run('node test/rig/programs/cgroups.ts', { timeoutMs: LIMIT_MS });
    const { results, isComplete } = parseCases(stdout);
    expect({ failed: results.filter(({ error }) => error !== undefined), isComplete, stderr, exitCode }).toEqual({
      failed: [],
      isComplete: true,
      stderr: '',
      exitCode: 0,
    });
    expect(results).toHaveLength(5);
  });
});
