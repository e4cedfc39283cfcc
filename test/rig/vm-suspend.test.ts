/** Suspends on real KVM and vhost: programs/vm-suspend.ts runs inside the rig. */
import { expect, it } from 'vitest';
import { startRig, whyNoRig } from '../support/rig/rig.ts';
import { parseCases } from '../support/vm-cases.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

const CASES = 4;
const LIMIT_MS = 300_000;

it.skipIf(reason !== undefined)(
  'a VM with a vsock of the kernel is suspended and resumed with it',
  async () => {
    await using rig = await startRig();
    const { exitCode, stdout, stderr } = await rig.run('node test/rig/programs/vm-suspend.ts', { timeoutMs: LIMIT_MS });
    const { results, isComplete } = parseCases(stdout);
    const failed = results.filter(({ error }) => error !== undefined);
    expect({ failed, isComplete, cases: results.length, exitCode, stderr }).toEqual({
      failed: [],
      isComplete: true,
      cases: CASES,
      exitCode: 0,
      stderr: '',
    });
    for (const { note } of results) if (note !== undefined) console.log(note);
  },
  LIMIT_MS,
);
