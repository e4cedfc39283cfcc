/**
 * What became of a migration that was under way when the agent died; QEMU goes on with it alone.
 *
 *     done when it has ended and the guest has not run here since, not done when it was never begun, failed or was cancelled,
 *     else unknown: what is still on its way has no outcome yet
 */
import type { Vms } from '../vm/api.ts';
import { isOver } from '../vm/migration/migration-status.ts';
import { Migrator } from '../vm/migration/migrator.ts';
import type { Reconcilers } from './reconcile.ts';

const ASK_MS = 2_000;

export const MIGRATION_RECONCILERS: Reconcilers = {
  'vm.migrate': async ({ vm, before }, vms: Vms) => {
    if (vm === undefined) return { outcome: 'unknown', reason: 'it names no VM' };
    const { generation, state } = vms.get(vm);
    if (generation !== before?.generation) return { outcome: 'unknown', reason: 'the VM was started anew meanwhile' };
    const migration = await new Migrator(vms).read(vm, { timeoutMs: ASK_MS });
    const reason = `its migration is ${migration.status} and it is ${state}`;
    if (!isOver(migration.status)) return { outcome: 'unknown', reason };
    if (migration.status !== 'completed') return { outcome: 'not-done', reason };
    return state === 'paused' ? { outcome: 'done', reason, result: migration } : { outcome: 'unknown', reason };
  },
};
