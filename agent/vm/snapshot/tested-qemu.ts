/**
 * The versions of QEMU on which guests have been suspended and resumed with their RAM left in its file. QEMU calls the capability
 * (`x-ignore-shared`) unstable, so on any other version the host's owner has to ask for it (`untestedSuspend`).
 * test/guest/vm-suspend-faults.test.ts runs on each version that is at hand, and fails on one that is not here.
 */
import { FairleadError } from '../../../shared/errors.ts';

export const TESTED_QEMU = ['7.2', '10.0'] as const;

export function isTestedQemu(version: string): boolean {
  const [major, minor] = version.split('.');
  return TESTED_QEMU.some((tested) => tested === `${major}.${minor}`);
}

/** @throws FairleadError UNSUPPORTED */
export function requireTestedQemu(vm: string, version: string, isUntestedAllowed: boolean): void {
  if (isUntestedAllowed || isTestedQemu(version)) return;
  const message = `VM ${vm} runs on QEMU ${version}, on which no suspend was tested (${TESTED_QEMU.join(', ')} were)`;
  throw new FairleadError('UNSUPPORTED', `${message}: the host's owner can allow it with untestedSuspend`, {
    details: { vm, version },
  });
}
