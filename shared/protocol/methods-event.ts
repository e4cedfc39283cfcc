/** What happened in the fleet, and who called for what: both as the hub has kept them. */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { FleetEvent } from './fleet-events.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1, idempotent: true } as const;

const Text = v.pipe(v.string(), v.maxLength(128));
const Limit = v.optional(v.pipe(Count, v.minValue(1), v.maxValue(1000)), 256);

export const AuditEntry = v.strictObject({
  seq: Count,
  at: Timestamp,
  /** Id of the token; empty for what the hub did by itself. */
  actor: v.string(),
  role: v.optional(v.string()),
  address: v.optional(v.string()),
  method: v.string(),
  host: v.optional(Name),
  /** `OK`, or the error's. */
  code: v.string(),
  durationMs: Count,
  commandId: v.optional(v.string()),
  /** Secrets taken out, long texts cut. */
  params: v.string(),
});
export type AuditEntry = v.InferOutput<typeof AuditEntry>;

export const EVENT_METHODS = {
  'event.list': {
    ...hubCall,
    role: 'viewer',
    summary: 'Events of the whole fleet; with follow each new one arrives as progress until the call is cancelled',
    params: v.strictObject({
      /** Only events after this sequence number. Those that are forgotten already are told by `missed`. Without it: with follow from now on. */
      since: v.optional(Count),
      /** The epoch that `since` is of: when the hub's data were restored from a backup since, numbers are another's, and `since` counts as 0. */
      epoch: v.optional(v.pipe(v.string(), v.maxLength(64))),
      host: v.optional(Name),
      vm: v.optional(Name),
      /** Types, or their beginnings: `vm.` is every event of a VM. */
      types: v.optional(v.pipe(v.array(Text), v.maxLength(32))),
      limit: Limit,
      follow: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({ epoch: v.string(), events: v.array(FleetEvent), missed: Count, lastSeq: Count }),
    progress: FleetEvent,
    errors: [],
  },
  'audit.list': {
    ...hubCall,
    role: 'admin',
    summary: 'Who called what, when, and how it ended; the oldest first',
    params: v.strictObject({
      since: v.optional(Count, 0),
      actor: v.optional(Text),
      method: v.optional(Text),
      host: v.optional(Name),
      limit: Limit,
    }),
    result: v.strictObject({ entries: v.array(AuditEntry), missed: Count, lastSeq: Count }),
    errors: [],
  },
} as const satisfies Record<string, MethodContract>;
