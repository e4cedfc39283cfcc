/** The end of a migration that nobody wants any more. */
import { setTimeout as sleep } from 'node:timers/promises';
import { toFairleadError } from '../../../shared/errors.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { isOver, readMigration } from './migration-status.ts';

/** What QEMU has not told by an event by then, or tells by none, is asked for. */
const POLL_MS = 20;

/**
 * Resolves when QEMU has let go of it, cancelled or not; one that was done already does no harm. A guest that is let go on before stops
 * again when its migration completes.
 */
export async function cancelMigration(vm: LiveVm, limits: CommandLimits): Promise<void> {
  using events = vm.listen({ names: ['MIGRATION'] });
  await vm.execute('migrate_cancel', {}, limits);
  while (!isOver((await readMigration(vm, limits)).status)) {
    try {
      await events.take({ signal: limits.signal, timeoutMs: POLL_MS });
    } catch (error) {
      if (toFairleadError(error).code !== 'TIMEOUT' || limits.signal?.aborted) throw error;
    }
  }
  await runStateSettled(vm, limits);
}

/** That it failed is told a moment before the guest's run state is its own again, and until then QEMU lets no guest go on. */
async function runStateSettled(vm: LiveVm, limits: CommandLimits): Promise<void> {
  while ((await vm.execute('query-status', {}, limits)).status === 'finish-migrate')
    await sleep(POLL_MS, undefined, limits.signal === undefined ? {} : { signal: limits.signal });
}
