/**
 * Whether the kernel moves the packets of a tap itself (vhost-net) for a QEMU of that user.
 *
 * The device is opened to find out, by whom it is for: it can be there with no driver behind it (udev makes it for every kernel), and belongs
 * to root alone on most hosts. A QEMU that is told to use it and cannot dies by an assertion (tried: 7.2), at its start or, with all that
 * the guest has in memory, when a network is attached.
 */
import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { ProcessUser } from '../confinement/process-user.ts';

const DEVICE = '/dev/vhost-net';
const LOOK_UP_TIMEOUT_MS = 5_000;

/** `user` is whom QEMU runs as, where not as the agent. */
export async function canUseVhostNet(user: Pick<ProcessUser, 'uid' | 'gid'> | undefined): Promise<boolean> {
  try {
    if (user === undefined) await (await open(DEVICE, constants.O_RDWR)).close();
    else await openAs(user);
    return true;
  } catch {
    return false; // QEMU moves the packets
  }
}

async function openAs({ uid, gid }: Pick<ProcessUser, 'uid' | 'gid'>): Promise<void> {
  const options = { uid, gid, cwd: '/', env: {}, timeout: LOOK_UP_TIMEOUT_MS };
  await promisify(execFile)('/bin/sh', ['-c', `: <>${DEVICE}`], options);
}
