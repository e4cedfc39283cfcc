/** test/guest/thousands-of-streams.test.ts with the kernel's transport, which half-closes: a host with KVM and vhost-vsock, in the rig. */
import { expect, test } from 'vitest';
import { held, outcomeOf, programOf } from '../support/rig/program.ts';
import { startRig, whyNoRig } from '../support/rig/rig.ts';

const missing = whyNoRig();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('2,000 streams at once into one guest over vhost-vsock', async () => {
  await using rig = await startRig();
  expect(await outcomeOf(rig, programOf('thousands-of-streams'))).toEqual(held(1));
});
