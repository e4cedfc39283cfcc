/** Suspends on real KVM and vhost: programs/vm-suspend.ts runs inside the rig. */
import { expect, it } from 'vitest';
import { held, outcomeInRig, PROGRAM_LIMIT_MS } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'a VM with a vsock of the kernel is suspended and resumed with it',
  async () => {
    expect(await outcomeInRig('vm-suspend')).toEqual(held(4));
  },
  PROGRAM_LIMIT_MS,
);
