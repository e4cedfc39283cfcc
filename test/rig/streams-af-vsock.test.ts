/** The AF_VSOCK transport on real KVM and vhost: programs/af-vsock-transport.ts runs inside the rig. */
import { it } from 'vitest';
import { expectCasesToHold, PROGRAM_LIMIT_MS } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'AF_VSOCK carries streams to guests and from them, with half-close',
  () => expectCasesToHold('af-vsock-transport', 9),
  PROGRAM_LIMIT_MS,
);
