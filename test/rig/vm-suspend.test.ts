/** Suspends on real KVM and vhost: programs/vm-suspend.ts runs inside the rig. */
import { it } from 'vitest';
import { expectCasesToHold, PROGRAM_LIMIT_MS } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'a VM with a vsock of the kernel is suspended and resumed with it',
  () => expectCasesToHold('vm-suspend', 4),
  PROGRAM_LIMIT_MS,
);
