/** Sets the clock of a guest by its agent. */
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { guestAgentOf } from './guest-agents.ts';

const NANOSECONDS = 1e6;

/** To that time, or to the host's; the answer is what it was set to. @throws FairleadError what the guest's agent throws. */
export async function setGuestClock(vm: LiveVm, limits: CommandLimits, time?: string): Promise<string> {
  const agent = guestAgentOf(vm);
  // Made sure of first, since the time goes on while an agent is waited for.
  await agent.run('guest-ping', {}, limits);
  const atMs = time === undefined ? Date.now() : Date.parse(time);
  await agent.run('guest-set-time', { time: atMs * NANOSECONDS }, limits);
  return new Date(atMs).toISOString();
}
