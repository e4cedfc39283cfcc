/** The guest agents of the VMs that run: one conversation for each life of a VM, whoever wants something of it. */
import type { LiveVm } from '../live-vm.ts';
import { GuestAgentClient } from './client.ts';
import { wayTo } from './ways.ts';

/** By the signal of the VM's life: it is another for each generation, and for each agent. */
const clients = new WeakMap<AbortSignal, GuestAgentClient>();

/** @throws FairleadError GUEST_UNREACHABLE when the VM has no way to a guest agent. */
export function guestAgentOf(vm: LiveVm): GuestAgentClient {
  const known = clients.get(vm.signal);
  if (known !== undefined) return known;
  const client = new GuestAgentClient({ vm: vm.name, signal: vm.signal, ...wayTo(vm) });
  clients.set(vm.signal, client);
  return client;
}
