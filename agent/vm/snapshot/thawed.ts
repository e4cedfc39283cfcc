/** A guest is not saved while its file systems are frozen: memory and disks are of one moment without that. */
import { FairleadError } from '../../../shared/errors.ts';
import { frozenUntil } from '../guest-agent/freeze.ts';
import type { LiveVm } from '../live-vm.ts';

/** `to`: "suspended". @throws FairleadError CONFLICT */
export async function requireThawed(vm: LiveVm, to: string): Promise<void> {
  const thawsAt = await frozenUntil(vm);
  if (thawsAt === undefined) return;
  // The lease is of this life of the VM: the guest would go on frozen, with nobody to thaw it.
  const message = `VM ${vm.name} cannot be ${to}: its file systems are frozen until ${thawsAt}; thaw them first`;
  throw new FairleadError('CONFLICT', message, { details: { vm: vm.name, thawsAt } });
}
