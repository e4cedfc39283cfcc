/** The commands of migration (commands.ts says how the rows are used). */
import * as v from 'valibot';
import { type CommandRow, Count, NoArguments, Nothing, row } from './command-row.ts';

export const MIGRATION_COMMANDS = {
  /** Without `status` before the first migration. */
  'query-migrate': row(
    NoArguments,
    v.object({
      status: v.optional(v.string()),
      'error-desc': v.optional(v.string()),
      'total-time': v.optional(Count),
      downtime: v.optional(Count),
      'expected-downtime': v.optional(Count),
      'blocked-reasons': v.optional(v.array(v.string())),
      /** `mbps` is in 10^6 bits a second. */
      ram: v.optional(v.object({ transferred: Count, remaining: Count, total: Count, mbps: v.optional(v.number()) })),
    }),
  ),
  'migrate-set-capabilities': row(
    v.strictObject({
      capabilities: v.array(v.strictObject({ capability: v.picklist(['events', 'x-ignore-shared']), state: v.boolean() })),
    }),
    Nothing,
  ),
  /** Bytes a second, and milliseconds. */
  'migrate-set-parameters': row(
    v.strictObject({ 'max-bandwidth': v.optional(Count), 'downtime-limit': v.optional(Count) }),
    Nothing,
  ),
  /** Returns when it has begun; MIGRATION tells of the rest, where the capability `events` is on. */
  migrate: row(v.strictObject({ uri: v.string() }), Nothing),
  /** In a QEMU that was started with `-incoming defer`; returns when it listens. */
  'migrate-incoming': row(v.strictObject({ uri: v.string() }), Nothing),
  /** Returns before it is cancelled, and does nothing where nothing is under way. */
  migrate_cancel: row(NoArguments, Nothing),
} as const satisfies Record<string, CommandRow>;
