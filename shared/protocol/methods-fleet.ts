/** Methods about the hosts of the fleet, answered by the hub. */
import * as v from 'valibot';
import { Count, Labels, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { PageParams, pageOf } from './paging.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;

export const HostRecord = v.strictObject({
  host: Name,
  connected: v.boolean(),
  labels: Labels,
  enrolledAt: Timestamp,
  lastSeenAt: v.optional(Timestamp),
  /** Rises with each accepted session; the newest wins. */
  epoch: Count,
  agentVersion: v.optional(v.string()),
  contractVersion: v.optional(Count),
  rttMs: v.optional(v.number()),
  remoteAddress: v.optional(v.string()),
});
export type HostRecord = v.InferOutput<typeof HostRecord>;

export const FLEET_METHODS = {
  'host.list': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Every enrolled host, connected or not, by name',
    params: PageParams,
    result: pageOf('hosts', HostRecord),
    errors: [],
  },
  'host.get': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'One enrolled host',
    params: v.strictObject({ host: Name }),
    result: HostRecord,
    errors: ['NOT_FOUND'],
  },
  'host.remove': {
    ...hubCall,
    role: 'admin',
    idempotent: false,
    summary: 'Forget a host and its key; its line is closed and it must enrol again',
    params: v.strictObject({ host: Name }),
    result: v.strictObject({}),
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, MethodContract>;
