/** What the programs of before and after a reset of the rig have in common: the disk that outlives it, and the hosts on it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chooseTransport } from '../../../agent/streams/choose.ts';
import { silent, type TestHost, testHost } from '../../support/vm.ts';

const DISK = '/tmp/disk';
const IN_MEMORY = '/tmp/ram';

export const SEEN = join(DISK, 'seen.json');
/** A command of the guest's shell: another one after each of its own starts. */
export const GUEST_BOOT_ID = 'cat /proc/sys/kernel/random/boot_id';

export interface Seen {
  readonly hostBootId: string;
  readonly guestBootId: string;
  readonly count: number;
}

export function mountDisk(): void {
  mkdirSync(DISK);
  execFileSync('mount', ['-t', 'ext4', '/dev/vdc', DISK]);
}

export function unmountDisk(): void {
  execFileSync('umount', [DISK]);
}

/** An agent's VMs on that disk, with their RAM there too or in memory. */
export async function hostOf(ram: 'disk' | 'memory'): Promise<TestHost> {
  const vsock = await chooseTransport({ want: 'vhost-vsock', path: '', logger: silent });
  const ramDir = ram === 'disk' ? join(DISK, 'ram') : IN_MEMORY;
  return testHost({ vsock, stateDir: join(DISK, ram), ramDir });
}
