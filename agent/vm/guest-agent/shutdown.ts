/** Asking a guest, by its agent, to shut itself down. */
import { isFairleadError } from '../../../shared/errors.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import type { GuestArguments } from './commands.ts';
import { guestAgentOf } from './guest-agents.ts';

/** The agent says nothing when it has taken the command; a refusal comes soon. */
const REFUSAL_MS = 1_000;

export type ShutdownMode = GuestArguments<'guest-shutdown'>['mode'];

/**
 * Settles when the guest's agent has taken the command, as far as it can be known; the end of the guest is for the caller to wait for.
 * A guest whose file systems are frozen is thawed before: it could not shut down.
 *
 * @throws FairleadError GUEST_UNREACHABLE at the latest when the limits are over, UNSUPPORTED, GUEST_FAILED, or the reason of the signal.
 */
export async function shutdownGuest(vm: LiveVm, limits: CommandLimits, mode: ShutdownMode = 'powerdown'): Promise<void> {
  const agent = guestAgentOf(vm);
  const tell = () => agent.tell('guest-shutdown', { mode }, limits, REFUSAL_MS);
  try {
    await tell();
  } catch (error) {
    if (!isFairleadError(error) || error.code !== 'WRONG_STATE' || limits.signal.aborted) throw error;
    await agent.run('guest-fsfreeze-thaw', {}, limits);
    await tell();
  }
}
