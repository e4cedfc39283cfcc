/**
 * Where what VMs write onto images lies: `STATE/images/overlays/VM/DISK-….qcow2`. Names of VMs and of disks may both hold dashes, so it is the
 * directory that says whose a file is.
 */
import { join } from 'node:path';

/** Of all VMs. */
export function overlaysDirectory(stateDir: string): string {
  return join(stateDir, 'images', 'overlays');
}

/** Of one VM, and nobody else's. */
export function overlaysOf(stateDir: string, vm: string): string {
  return join(overlaysDirectory(stateDir), vm);
}
