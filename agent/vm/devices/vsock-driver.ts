/**
 * When the driver of a guest has taken a vsock device that was plugged in, for guests that do not dial the host then: before that, a host
 * that dials would lose the device for good (daemon-quiet.ts).
 *
 * QEMU has no event for it. It is asked, soon and then ever less often, for as long as a guest that finds the device takes at most.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isFairleadError } from '../../../shared/errors.ts';
import type { VsockDevice } from '../../streams/transport.ts';
import type { CommandedVm } from '../live-vm.ts';
import { VSOCK_ID } from './reconcile.ts';

const PATH = `/machine/peripheral/${VSOCK_ID}/virtio-backend`;
const LOOK_MS = { first: 5, growth: 1.1, most: 200 } as const;
/** QEMU has told the daemon of the guest's queues; the guest has still to fill them. */
const SETTLE_MS = 100;
/** A guest that runs and has a driver has taken it long before. */
const GIVE_UP_MS = 15_000;

/** In the background. Where it is not known, streams are let through in the end. Never rejects. */
export async function letThroughWhenTaken(vm: CommandedVm, device: VsockDevice): Promise<void> {
  if (device.backend.kind !== 'vhost-user') return;
  try {
    if (await untilTaken(vm)) await sleep(SETTLE_MS, undefined, { signal: vm.signal, ref: false });
  } catch (error) {
    // The VM has ended, the device is gone again, or QEMU has no such command: it calls it unstable.
    if (!isFairleadError(error) && !vm.signal.aborted) throw error;
  }
  device.guestChanged('taken');
}

async function untilTaken(vm: CommandedVm): Promise<boolean> {
  const endsAt = performance.now() + GIVE_UP_MS;
  for (
    let pauseMs: number = LOOK_MS.first;
    performance.now() < endsAt;
    pauseMs = Math.min(LOOK_MS.growth * pauseMs, LOOK_MS.most)
  ) {
    const limits = { signal: vm.signal, remainingMs: Math.max(1, endsAt - performance.now()) };
    const status = await vm.execute('x-query-virtio-status', { path: PATH }, limits);
    if (status['vhost-started']) return true;
    await sleep(pauseMs, undefined, { signal: vm.signal, ref: false });
  }
  return false;
}
