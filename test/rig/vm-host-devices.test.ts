/** Networks and PCI devices of a host with vhost and an IOMMU: programs/host-devices.ts runs inside the rig. */
import { expect, it } from 'vitest';
import { held, outcomeInRig, PROGRAM_LIMIT_MS } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);

it.skipIf(reason !== undefined)(
  'a VM is given networks that the kernel moves by vhost-net, and PCI devices in all three forms',
  async () => {
    expect(await outcomeInRig('host-devices', { spareCards: 3 })).toEqual(held(9));
  },
  PROGRAM_LIMIT_MS,
);
