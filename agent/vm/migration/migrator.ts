/**
 * Sending a running VM to a QEMU that waits for it.
 *
 *     begin ──▶ setup ──▶ active ──▶ (device) ──▶ completed     the guest is paused here, and runs there
 *                  │         │  ╲
 *                  │         │   cancelling ──▶ cancelled        the guest is as it was
 *                  └─────────┴────▶ failed                       the guest is as it was
 *
 * Beginning is done in turn with the other commands of the VM; the rest is not, so that a migration that takes its time holds nothing up.
 * Its end is heard of by MIGRATION events. QEMU is asked for numbers now and then, for progress and to notice one that does not move: QEMU
 * itself would wait for ever for a target that takes nothing.
 *
 * Whoever lets a guest go on here after it was migrated has it twice. QEMU allows that (it is how a target that was lost is given up), so
 * `vm.resume` does too; what is refused is to migrate a guest that went away and has not run here since.
 */
import { FairleadError, type JsonObject, toFairleadError } from '../../../shared/errors.ts';
import type { Params } from '../../../shared/protocol/methods.ts';
import type { Migration } from '../../../shared/protocol/methods-migration.ts';
import type { VmState } from '../../../shared/protocol/vm.ts';
import type { QmpListener } from '../../qmp/events.ts';
import type { CallOptions, Vms } from '../api.ts';
import { Deadline } from '../deadline.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { requireNoPull } from '../snapshot/pull-job.ts';
import { isOver, readMigration } from './migration-status.ts';

export interface MigrationOptions extends CallOptions {
  /** Must not throw. */
  readonly onProgress?: ((migration: Migration) => void) | undefined;
}

type MigrateParams = Params<'vm.migrate'>;

const MIGRATABLE: readonly VmState[] = ['running', 'paused'];
const PROGRESS_MS = 500;
/** Cancelling only closes what is open. */
const CANCEL_TIMEOUT_MS = 10_000;
const COMMAND_TIMEOUT_MS = 30_000;

/** How one that is over has ended, and what was done about it. */
interface Ended {
  readonly migration: Migration;
  /** It was cancelled from here, for want of progress. */
  readonly stalled: boolean;
}

export class Migrator {
  readonly #vms: Vms;

  constructor(vms: Vms) {
    this.#vms = vms;
  }

  /**
   * With `wait`, a signal that fires or a deadline that passes cancels the migration before the call ends.
   * @throws FairleadError WRONG_STATE, CONFLICT while another is under way, UNSUPPORTED for a VM that cannot be migrated, QMP_FAILED with
   * QEMU's reason, CANCELLED, TIMEOUT.
   */
  migrate(params: MigrateParams, options: MigrationOptions): Promise<Migration> {
    const { vm: name, uri, wait, stallTimeoutMs } = params;
    return this.#besides('migrating', name, options, async (vm, deadline) => {
      // From before it begins, so that no end is missed.
      using events = vm.listen({ names: ['MIGRATION'] });
      await this.#begin(params, deadline);
      if (!wait) return readMigration(vm, deadline);
      try {
        const ended = await followToEnd(vm, events, { stallTimeoutMs, limits: deadline, onProgress: options.onProgress });
        return succeeded(ended, name, uri);
      } catch (error) {
        if (deadline.signal.aborted && !vm.signal.aborted) await giveUp(vm);
        throw error;
      }
    });
  }

  read(name: string, options: CallOptions): Promise<Migration> {
    return this.#besides('asking for the migration of', name, { timeoutMs: COMMAND_TIMEOUT_MS, ...options }, readMigration);
  }

  /** However it ends; throws what keeps it from being heard of. */
  wait(name: string, options: MigrationOptions): Promise<Migration> {
    return this.#besides('waiting for the migration of', name, options, async (vm, limits) => {
      using events = vm.listen({ names: ['MIGRATION'] });
      const { migration } = await followToEnd(vm, events, { limits, onProgress: options.onProgress });
      return migration;
    });
  }

  cancel(name: string, options: CallOptions): Promise<Migration> {
    const limited = { timeoutMs: COMMAND_TIMEOUT_MS, ...options };
    return this.#besides('cancelling the migration of', name, limited, (vm, deadline) => cancel(vm, deadline));
  }

  #besides<T>(
    doing: string,
    name: string,
    options: CallOptions,
    run: (vm: LiveVm, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    const unlimited = { timeoutMs: Number.POSITIVE_INFINITY, ...options };
    return this.#vms.operate(name, { doing, inTurn: false }, unlimited, run);
  }

  #begin(
    { vm: name, uri, maxBandwidthBytes, maxDowntimeMs }: MigrateParams,
    { signal, remainingMs }: CommandLimits,
  ): Promise<void> {
    const timeoutMs = Math.min(COMMAND_TIMEOUT_MS, remainingMs);
    const operation = { doing: 'beginning to migrate', inTurn: true, states: MIGRATABLE };
    return this.#vms.operate(name, operation, { signal, timeoutMs }, async (vm, deadline) => {
      await requireNoPull(vm, deadline);
      await checkMigratable(vm, deadline);
      const capabilities = [
        { capability: 'events', state: true },
        // What a snapshot before may have left on: another QEMU has no part in this one's memory.
        { capability: 'x-ignore-shared', state: false },
      ] as const;
      await vm.execute('migrate-set-capabilities', { capabilities: [...capabilities] }, deadline);
      const parameters = { 'max-bandwidth': maxBandwidthBytes, 'downtime-limit': maxDowntimeMs };
      await vm.execute('migrate-set-parameters', parameters, deadline);
      await vm.execute('migrate', { uri }, deadline);
    });
  }
}

async function checkMigratable(vm: LiveVm, limits: CommandLimits): Promise<void> {
  const [{ status }, migration] = await Promise.all([vm.execute('query-status', {}, limits), readMigration(vm, limits)]);
  if (status === 'postmigrate') {
    const message = `VM ${vm.name} was migrated away and has not run here since`;
    const what = 'stop it, or resume it if it is lost at its target: it must not run in both places';
    throw new FairleadError('WRONG_STATE', `${message}: ${what}`, {
      details: { vm: vm.name, state: vm.state, runState: status },
    });
  }
  if (migration.status !== 'none' && !isOver(migration.status)) {
    const message = `VM ${vm.name} is being migrated already (${migration.status}): wait for it, or cancel it`;
    throw new FairleadError('CONFLICT', message, { details: { vm: vm.name, status: migration.status } });
  }
  if (migration.blockedBy.length === 0) return;
  const reasons = migration.blockedBy.join('; ');
  throw new FairleadError('UNSUPPORTED', `VM ${vm.name} cannot be migrated, says its QEMU: ${reasons}`, {
    details: { vm: vm.name, blockedBy: migration.blockedBy },
  });
}

interface FollowOptions {
  readonly limits: CommandLimits;
  readonly stallTimeoutMs?: number | undefined;
  readonly onProgress: ((migration: Migration) => void) | undefined;
}

async function followToEnd(vm: LiveVm, events: QmpListener, options: FollowOptions): Promise<Ended> {
  const { limits, stallTimeoutMs = Number.POSITIVE_INFINITY, onProgress } = options;
  let movedAt = performance.now();
  let moved: number | undefined;
  let stalled = false;
  for (;;) {
    const migration = await readMigration(vm, limits);
    onProgress?.(migration);
    if (isOver(migration.status)) return { migration, stalled };
    const now = performance.now();
    if (migration.transferredBytes !== moved) {
      moved = migration.transferredBytes;
      movedAt = now;
    }
    if (!stalled && now - movedAt >= stallTimeoutMs) {
      stalled = true;
      await vm.execute('migrate_cancel', {}, limits);
    }
    await nextChange(events, limits);
  }
}

/** The next event, or a little while: whatever happened, QEMU is asked then. */
async function nextChange(events: QmpListener, { signal }: CommandLimits): Promise<void> {
  try {
    await events.take({ timeoutMs: PROGRESS_MS, signal });
  } catch (error) {
    signal.throwIfAborted();
    if (toFairleadError(error).code !== 'TIMEOUT') throw error;
  }
}

async function cancel(vm: LiveVm, limits: CommandLimits): Promise<Migration> {
  using events = vm.listen({ names: ['MIGRATION'] });
  await vm.execute('migrate_cancel', {}, limits);
  return (await followToEnd(vm, events, { limits, onProgress: undefined })).migration;
}

/** The caller is gone, but the guest is not to be left with half a migration. */
async function giveUp(vm: LiveVm): Promise<void> {
  using deadline = new Deadline(`cancelling the migration of VM ${vm.name}`, { timeoutMs: CANCEL_TIMEOUT_MS, signal: vm.signal });
  await cancel(vm, deadline).catch(() => {
    // A QEMU that does not answer any more has taken the command nevertheless, or is beyond help; the caller is told why it was given up.
  });
}

/** @throws FairleadError for one that did not get there */
function succeeded({ migration, stalled }: Ended, vm: string, uri: string): Migration {
  if (migration.status === 'completed') return migration;
  const details: JsonObject = { vm, uri, status: migration.status, transferredBytes: migration.transferredBytes };
  const stays = `VM ${vm} was not migrated to ${uri} and is here as it was`;
  if (stalled) throw new FairleadError('TIMEOUT', `${stays}: the target took nothing any more`, { details });
  if (migration.status === 'cancelled') throw new FairleadError('CANCELLED', `${stays}: it was cancelled`, { details });
  throw new FairleadError('QMP_FAILED', `${stays}: ${migration.error ?? 'its QEMU does not say why'}`, { details });
}
