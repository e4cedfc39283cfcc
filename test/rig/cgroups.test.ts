/** Control groups of VMs on a kernel that has them: the program of this folder runs in a VM, as its only owner. */
import { describe, expect, test } from 'vitest';
import { held, outcomeInRig } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig({ light: true });
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('VMs of a host with control groups', () => {
  test('are held to what their spec is worth', async () => {
    expect(await outcomeInRig('cgroups', { light: true, memoryMebibytes: 2048 })).toEqual(held(5));
  });
});
