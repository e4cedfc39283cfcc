/** Methods that the hub answers itself. */
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

/** A token as listed: never the secret, only the first characters of its id. */
export const TokenRecord = v.strictObject({
  id: v.string(),
  kind: v.picklist(['enrol', 'operator']),
  role: v.optional(v.picklist(['viewer', 'operator', 'admin'])),
  labels: v.optional(Labels),
  description: v.string(),
  createdAt: Timestamp,
  expiresAt: v.optional(Timestamp),
  usesLeft: v.optional(Count),
  revoked: v.boolean(),
});
export type TokenRecord = v.InferOutput<typeof TokenRecord>;

/** Ten years; no bound at all would let a date overflow. */
const MAX_OPERATOR_TTL_MS = 10 * 366 * 24 * 3600 * 1000;

const TokenId = v.pipe(v.string(), v.minLength(4), v.maxLength(64), v.regex(/^[A-Za-z0-9_-]+$/));

export const HUB_METHODS = {
  'rpc.discover': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'The OpenRPC document of this contract',
    params: v.strictObject({}),
    result: v.looseObject({ openrpc: v.string() }),
    errors: [],
  },
  'hub.info': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Version, contract and counts of the hub',
    params: v.strictObject({}),
    result: v.strictObject({
      version: v.string(),
      contractVersion: Count,
      hubId: v.string(),
      hostsConnected: Count,
      hostsEnrolled: Count,
      operatorsConnected: Count,
      streamsOpen: Count,
      uptimeMs: Count,
    }),
    errors: [],
  },
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
  'token.create': {
    ...hubCall,
    role: 'admin',
    idempotent: false,
    summary: 'Make an enrolment token for a host or a token for an operator; the secret is shown this once',
    params: v.variant('kind', [
      v.strictObject({
        kind: v.literal('enrol'),
        ttlMs: v.optional(v.pipe(Count, v.minValue(1000), v.maxValue(3600_000)), 3600_000),
        maxUses: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(10_000)), 1),
        labels: v.optional(Labels, {}),
        description: v.optional(v.pipe(v.string(), v.maxLength(200)), ''),
      }),
      v.strictObject({
        kind: v.literal('operator'),
        role: v.optional(v.picklist(['viewer', 'operator', 'admin']), 'operator'),
        ttlMs: v.optional(v.pipe(Count, v.minValue(1000), v.maxValue(MAX_OPERATOR_TTL_MS))),
        description: v.optional(v.pipe(v.string(), v.maxLength(200)), ''),
      }),
    ]),
    result: v.strictObject({ token: v.string(), record: TokenRecord }),
    errors: ['LIMIT_EXCEEDED'],
  },
  'token.list': {
    ...hubCall,
    role: 'admin',
    idempotent: true,
    summary: 'Tokens that exist, without their secrets',
    params: v.strictObject({}),
    result: v.strictObject({ tokens: v.array(TokenRecord) }),
    errors: [],
  },
  'token.revoke': {
    ...hubCall,
    role: 'admin',
    idempotent: true,
    summary: 'Make a token worthless from now on',
    params: v.strictObject({ id: TokenId }),
    result: v.strictObject({}),
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, MethodContract>;
