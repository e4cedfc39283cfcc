/** What QEMU says of a migration, in the words of the contract. */
import type { Migration } from '../../../shared/protocol/methods-migration.ts';
import type { QmpResult } from '../../qmp/commands.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';

/** QAPI MigrationStatus: nothing more comes after these. */
const OVER: readonly string[] = ['none', 'completed', 'failed', 'cancelled'];
const BITS_OF_A_MEGABIT = 1_000_000;

export function isOver(status: string): boolean {
  return OVER.includes(status);
}

export async function readMigration(vm: LiveVm, limits: CommandLimits): Promise<Migration> {
  return migrationOf(await vm.execute('query-migrate', {}, limits));
}

export function migrationOf(answer: QmpResult<'query-migrate'>): Migration {
  const { status = 'none', ram } = answer;
  const numbers = {
    transferredBytes: ram?.transferred,
    remainingBytes: ram?.remaining,
    totalBytes: ram?.total,
    bytesPerSecond: ram?.mbps === undefined ? undefined : Math.round((ram.mbps * BITS_OF_A_MEGABIT) / 8),
    totalMs: answer['total-time'],
    downtimeMs: answer.downtime ?? answer['expected-downtime'],
    error: answer['error-desc'],
  };
  const known = Object.entries(numbers).filter(([, value]) => value !== undefined);
  // SAFETY: each entry is one of `numbers`, whose keys and types are those of the contract.
  return { status, ...(Object.fromEntries(known) as Partial<Migration>), blockedBy: answer['blocked-reasons'] ?? [] };
}
