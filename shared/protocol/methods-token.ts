/** Methods about the tokens of hosts and operators. */
import * as v from 'valibot';
import { Count, Labels, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;

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

export const TOKEN_METHODS = {
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
