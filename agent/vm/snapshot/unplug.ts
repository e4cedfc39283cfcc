/**
 * Devices that a guest lets go of while it is saved, and gets back when it goes on, here or as a clone:
 *
 *     a vsock of the vhost-user transport, which QEMU cannot save
 *     for clones, every network and any vsock: a restored NIC keeps the address of the one that was saved
 *
 * Only a guest that runs can let go of something. What it gets back is what it had, in the same slots; streams through the vsock end.
 */
import { FairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import type { Network } from '../../../shared/protocol/vm-spec-devices.ts';
import { MACHINE_FEATURES } from '../../../shared/protocol/vm-spec-machines.ts';
import type { Deadline } from '../deadline.ts';
import { attach, type CheckPolicy } from '../devices/attach.ts';
import { answerOf, askToDetach, type Leaving, leavingOf, listenForLeave, refused } from '../devices/detach.ts';
import { NETWORKS } from '../devices/pluggable.ts';
import { uncancelled } from '../devices/ports.ts';
import { reconcileDevices } from '../devices/reconcile.ts';
import { attachVsock, LEAVING_VSOCK } from '../devices/vsock.ts';
import type { LiveVm } from '../live-vm.ts';
import type { Manifest } from './manifest.ts';

export type Unplugged = Manifest['unplugged'];

export const NOTHING_UNPLUGGED: Unplugged = { networks: [] };

/** What has to go before this guest can be saved. @throws FairleadError UNSUPPORTED or WRONG_STATE where it cannot. */
export function toUnplug(vm: LiveVm, { clonable }: { readonly clonable: boolean }): Unplugged {
  const { spec, device, name } = vm;
  const networks = clonable ? spec.networks : [];
  const vsock = spec.vsock !== undefined && (clonable || device?.backend.kind === 'vhost-user') ? spec.vsock : undefined;
  if (networks.length === 0 && vsock === undefined) return NOTHING_UNPLUGGED;
  const what = [...networks.map(({ id }) => `network ${id}`), ...(vsock === undefined ? [] : ['the vsock'])].join(', ');
  if (!MACHINE_FEATURES[spec.machine].hotplug) {
    const message = `VM ${name} cannot be saved with ${what} in it, and a machine of type ${spec.machine} cannot let go of it`;
    throw new FairleadError('UNSUPPORTED', `${message}: use q35`, { details: { vm: name } });
  }
  if (vm.state !== 'running') {
    const message = `VM ${name} cannot be saved with ${what} in it, and its guest has to run to let go of it`;
    throw new FairleadError('WRONG_STATE', `${message}: resume it first`, { details: { vm: name, state: vm.state } });
  }
  return { networks: [...networks], ...(vsock === undefined ? {} : { vsock }) };
}

/** @throws FairleadError GUEST_UNRESPONSIVE and what askToDetach throws; some of it may be out then. */
export async function unplug(vm: LiveVm, { networks, vsock }: Unplugged, deadline: Deadline): Promise<void> {
  // Side by side: a guest takes its time over each.
  const leaving = [...networks.map(({ id }) => leavingOf(NETWORKS, id)), ...(vsock === undefined ? [] : [LEAVING_VSOCK])];
  if (leaving.length === 0) return;
  const results = await Promise.allSettled(leaving.map((one) => detach(vm, one, deadline)));
  await reconcileDevices(vm, uncancelled(vm, deadline));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** What of it is there already is left as it is. */
export async function plugBack(
  vm: LiveVm,
  { networks, vsock }: Unplugged,
  tools: { readonly deadline: Deadline; readonly checkPolicy: CheckPolicy },
): Promise<void> {
  for (const network of networks) await attach<Network>(vm, NETWORKS, network, tools);
  if (vsock !== undefined) await attachVsock(vm, vsock, tools);
}

/** A guest agent behind a vsock that was taken out comes back with it. */
export function withoutLostAgent(spec: VmSpec): VmSpec {
  if (spec.guestAgent?.via !== 'vsock' || spec.vsock !== undefined) return spec;
  const { guestAgent: _, ...rest } = spec;
  return rest;
}

async function detach(vm: LiveVm, leaving: Leaving, deadline: Deadline): Promise<void> {
  using events = listenForLeave(vm, leaving.id);
  if (!(await askToDetach(vm, leaving, deadline))) return;
  if ((await answerOf(vm, leaving.what, events, deadline)) === 'refused') throw refused(vm, leaving.what);
}
