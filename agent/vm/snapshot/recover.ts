/** What an agent that died left of a snapshot that it was making: its VM goes on as it was before, by the intent in the draft. */
import { toFairleadError } from '../../../shared/errors.ts';
import type { Logger } from '../api.ts';
import { GUEST_STATES } from '../machine.ts';
import type { SnapshotTools } from './create.ts';
import { readIntent } from './intent.ts';
import { unsaveGuest } from './suspend.ts';
import { plugBack } from './unplug.ts';

const RECOVER_MS = 60_000;

/** True once nothing has to be put right any more. Never rejects. */
export async function undoUnfinished(
  { vms, checkPolicy }: Pick<SnapshotTools, 'vms' | 'checkPolicy'>,
  directory: string,
  logger: Logger,
): Promise<boolean> {
  const intent = await readIntent(directory);
  if (intent === undefined) return true;
  const { vm: name, generation, wasRunning, unplugged } = intent;
  const isThere = vms.list().some((vm) => vm.name === name && vm.generation === generation && GUEST_STATES.includes(vm.state));
  // Another process knows nothing of it; what was taken out of that one it did not get back before it ended.
  if (!isThere) return true;
  try {
    const operation = { doing: 'putting right', inTurn: true };
    await vms.operate(name, operation, { timeoutMs: RECOVER_MS }, async (vm, deadline) => {
      if (wasRunning) await unsaveGuest(vm);
      else await vm.execute('migrate_cancel', {}, deadline);
      await plugBack(vm, unplugged, { deadline, checkPolicy });
    });
    logger.info({ vm: name }, 'a VM goes on whose snapshot was cut short');
    return true;
  } catch (error) {
    // The intent stays for the next agent.
    logger.error({ vm: name, error: toFairleadError(error).message }, 'a VM whose snapshot was cut short could not be put right');
    return false;
  }
}
