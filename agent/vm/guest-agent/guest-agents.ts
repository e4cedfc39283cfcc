/** The guest agents of the VMs that run: one conversation for each life of a VM, whoever wants something of it. */
import type { LiveVm } from '../live-vm.ts';
import { GuestAgentClient } from './client.ts';
import { wayTo } from './ways.ts';

interface Known {
  readonly client: GuestAgentClient;
  hearsResets: boolean;
}

/** By the signal of the VM's life: it is another for each generation, and for each agent. */
const known = new WeakMap<AbortSignal, Known>();

/** @throws FairleadError GUEST_UNREACHABLE when the VM has no way to a guest agent. */
export function guestAgentOf(vm: LiveVm): GuestAgentClient {
  let agent = known.get(vm.signal);
  if (agent === undefined) {
    agent = { client: new GuestAgentClient({ vm: vm.name, signal: vm.signal, ...wayTo(vm) }), hearsResets: false };
    known.set(vm.signal, agent);
  }
  if (!agent.hearsResets) void closeAtResets(vm, agent);
  return agent.client;
}

/** The agent of before a reset says nothing more, and its connection does not tell. Ends with the QMP session. */
async function closeAtResets(vm: LiveVm, agent: Known): Promise<void> {
  agent.hearsResets = true;
  try {
    using resets = vm.listen({ names: ['RESET'] });
    for await (const _ of resets) agent.client.close();
  } catch {
    // QEMU does not answer at present. What is lost with a reset meanwhile is found out by its time limit.
  } finally {
    agent.hearsResets = false;
  }
}
