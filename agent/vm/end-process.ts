/**
 * The end of a VM's process by command: the ladder (stop-ladder.ts) with a record of each rung, so that an agent that dies on it leaves the
 * rest to the next one, and with the way back for a guest that was only asked and whose caller waits no more.
 */
import type { Result } from '../../shared/protocol/methods.ts';
import { failpoint } from '../failpoint.ts';
import { runCommand } from '../qmp/commands.ts';
import type { VmLife } from './life.ts';
import type { CommandLimits, LiveVm } from './live-vm.ts';
import type { Session } from './session.ts';
import { descend, LADDER_TIMES, type LadderTarget, type LadderTimes } from './stop-ladder.ts';

export interface EndContext {
  readonly ladderTimes?: LadderTimes | undefined;
  /** Asks the agent in a guest that has one to shut it down. Rejects where it does not hear. */
  readonly shutdownGuest?: ((vm: LiveVm, limits: CommandLimits) => Promise<void>) | undefined;
}

export interface Ending {
  readonly context: EndContext;
  readonly life: VmLife;
  readonly live: () => LiveVm;
}

/** `graceMs` is the guest's, where it runs and can hear. @throws FairleadError as `descend` does. */
export async function endProcess(
  ending: Ending,
  { graceMs, signal }: { readonly graceMs: number; readonly signal: AbortSignal },
): Promise<Result<'vm.stop'>['endedBy']> {
  const { life, context } = ending;
  const { session } = life;
  if (session === undefined) {
    await life.cleaned;
    if (life.record.restarts !== undefined) await life.save({ restarts: undefined });
    return 'already-stopped';
  }
  await failpoint('stop.begun');
  // Only a guest that runs can hear the button.
  const isRunning = life.state === 'running' || life.record.stop?.rung === 'guest';
  life.apply('stop', { reason: 'requested' });
  try {
    return await descend(ladderTarget(ending, session), {
      graceMs: isRunning ? graceMs : 0,
      times: context.ladderTimes ?? LADDER_TIMES,
      signal,
      onRung: async (rung) => {
        life.rung = rung;
        await life.saveIfPossible({ state: 'stopping', stop: { graceMs, rung } });
        await failpoint('stop.recorded');
      },
    });
  } catch (error) {
    // The guest was only asked, and nobody waits for it any more. An agent that leaves has it finished by the next one.
    if (life.rung === 'guest' && !session.process.hasExited() && !session.signal.aborted) {
      life.apply('stop-abandoned');
      life.saveLater({ state: 'running', stop: undefined });
    }
    throw error;
  } finally {
    if (session.process.hasExited()) await session.ended.then(() => life.cleaned);
    life.rung = undefined;
  }
}

function ladderTarget({ context: { shutdownGuest }, life, live }: Ending, session: Session): LadderTarget {
  const hasAgent = shutdownGuest !== undefined && life.record.spec.guestAgent !== undefined;
  return {
    vm: life.name,
    exited: session.process.exited,
    signal: (name) => session.process.signal(name),
    execute: async (command, limits) => runCommand(session.qmp, command, {}, limits),
    shutdownGuest: hasAgent ? ({ signal, timeoutMs: remainingMs }) => shutdownGuest(live(), { signal, remainingMs }) : undefined,
  };
}
