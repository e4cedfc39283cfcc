/** Clones on real KVM and vhost, where nothing keeps them from sharing memory: programs/vm-clone.ts runs inside the rig. */
import { expect, it } from 'vitest';
import { held, outcomeInRig, PROGRAM_LIMIT_MS } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'a VM and three clones of it have a vsock of the kernel each, and streams into all of them at once',
  async () => {
    expect(await outcomeInRig('vm-clone')).toEqual(held(4));
  },
  PROGRAM_LIMIT_MS,
);
