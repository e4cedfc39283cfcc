/** The AF_VSOCK transport on real KVM and vhost: programs/af-vsock-transport.ts runs inside the rig. */
import { expect, it } from 'vitest';
import { held, outcomeInRig, PROGRAM_LIMIT_MS } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'AF_VSOCK carries streams to guests and from them, with half-close',
  async () => {
    expect(await outcomeInRig('af-vsock-transport')).toEqual(held(9));
  },
  PROGRAM_LIMIT_MS,
);
