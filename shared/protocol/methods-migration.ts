/** Methods that send a running VM to another QEMU (agent/vm/migration has how). */
import * as v from 'valibot';
import { Bytes, Count, Name } from './common.ts';
import type { MethodContract } from './contract.ts';

const HOST = String.raw`([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])`;

/** Nothing that QEMU takes for more than a place to connect to: no command, no file, no option after a comma. */
export const MigrationUri = v.pipe(
  v.string(),
  v.maxLength(263),
  v.regex(
    new RegExp(String.raw`^(tcp:${HOST}:\d{1,5}|unix:/[^\0]{1,106})$`),
    'must be tcp:HOST:PORT or unix:/PATH; a command or a file is never migrated to',
  ),
);

/** What QEMU says of the last migration of this process. Numbers are missing while it does not say them. */
const Migration = v.strictObject({
  /** `none`, `setup`, `active`, `completed`, `failed`, `cancelling`, `cancelled`, or another of QEMU's MigrationStatus. */
  status: v.string(),
  transferredBytes: v.optional(Count),
  remainingBytes: v.optional(Count),
  totalBytes: v.optional(Count),
  bytesPerSecond: v.optional(Count),
  totalMs: v.optional(Count),
  /** How long the guest stood still, or will as far as can be foreseen. */
  downtimeMs: v.optional(Count),
  error: v.optional(v.string()),
  /** Why the VM cannot be migrated at all. */
  blockedBy: v.array(v.string()),
});
export type Migration = v.InferOutput<typeof Migration>;

const Vm = v.strictObject({ vm: Name });
const call = { target: 'agent', kind: 'call', since: 1, result: Migration } as const;

export const MIGRATION_METHODS = {
  'vm.migrate': {
    ...call,
    role: 'operator',
    idempotent: false,
    summary:
      'Send a VM to a QEMU that waits for it (-incoming); it is paused here once it is there. Cancelling the call cancels the migration',
    params: v.strictObject({
      vm: Name,
      uri: MigrationUri,
      /** A second; 0 is as fast as it goes. */
      maxBandwidthBytes: v.optional(Bytes, 0),
      /** How long the guest may stand still at the end. */
      maxDowntimeMs: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(2_000_000)), 300),
      /** It is given up when no byte has moved for so long. */
      stallTimeoutMs: v.optional(v.pipe(Count, v.minValue(100), v.maxValue(3_600_000)), 60_000),
      /** Answer at its end; otherwise once it has begun. */
      wait: v.optional(v.boolean(), true),
    }),
    progress: Migration,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'CONFLICT', 'QMP_FAILED'],
  },
  'vm.migration': {
    ...call,
    role: 'viewer',
    idempotent: true,
    summary: 'How far the migration of a VM is, or how the last one ended',
    params: Vm,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
  'vm.migrateWait': {
    ...call,
    role: 'viewer',
    idempotent: true,
    summary: 'Wait for the end of a migration that was begun before; cancelling this does not cancel that',
    params: Vm,
    progress: Migration,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
  'vm.migrateCancel': {
    ...call,
    role: 'operator',
    idempotent: true,
    summary: 'Cancel the migration of a VM, which goes on here as it was; answers when it is cancelled, or has ended before',
    params: Vm,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
