/** The AF_VSOCK transport on real KVM and vhost: programs/af-vsock-transport.ts runs inside the rig. */
import { expect, it } from 'vitest';
import { startRig, whyNoRig } from '../support/rig/rig.ts';
import { parseCases } from '../support/vm-cases.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

const CASES = 9;
const LIMIT_MS = 300_000;

it.skipIf(reason !== undefined)(
  'AF_VSOCK carries streams to guests and from them, with half-close',
  async () => {
    await using rig = await startRig();
    const { exitCode, stdout, stderr } = await rig.run('node test/rig/programs/af-vsock-transport.ts', { timeoutMs: LIMIT_MS });
    const { results, isComplete } = parseCases(stdout);
    const failed = results.filter(({ error }) => error !== undefined);
    expect({ failed, isComplete, cases: results.length, exitCode, stderr }).toEqual({
      failed: [],
      isComplete: true,
      cases: CASES,
      exitCode: 0,
      stderr: '',
    });
  },
  LIMIT_MS,
);
