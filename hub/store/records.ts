/** The records that the hub keeps, as schemas: they are checked each time one is read back. Times are Unix milliseconds. */
import * as v from 'valibot';
import { Labels, Name } from '../../shared/protocol/common.ts';
import { HostCapabilities } from '../../shared/protocol/methods-fleet.ts';
import { defineCollection } from './store.ts';

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

const HostState = v.strictObject({
  host: Name,
  /** ed25519 public key in the form of the handshake (shared/protocol/handshake.ts). */
  publicKey: v.string(),
  labels: Labels,
  enrolledAtMs: Count,
  /** Id of the enrolment token that let it in. */
  enrolledWith: v.string(),
  /** Number of the newest accepted session; 0 before the first. */
  epoch: Count,
  lastSeenAtMs: v.optional(Count),
  agentVersion: v.optional(v.string()),
  contractVersion: v.optional(Count),
  capabilities: v.optional(HostCapabilities),
  cordoned: v.optional(v.strictObject({ reason: v.string(), by: v.string(), atMs: Count, drained: v.boolean() })),
});
export type HostState = v.InferOutput<typeof HostState>;

const TokenState = v.strictObject({
  id: v.string(),
  kind: v.picklist(['enrol', 'operator']),
  /** SHA-256 of the secret, in hexadecimal. The secret itself is nowhere. */
  secretHash: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  role: v.optional(v.picklist(['viewer', 'operator', 'admin'])),
  labels: v.optional(Labels),
  description: v.string(),
  createdAtMs: Count,
  expiresAtMs: v.optional(Count),
  /** Absent: as often as one likes. */
  usesLeft: v.optional(Count),
  revoked: v.boolean(),
});
export type TokenState = v.InferOutput<typeof TokenState>;

export const HOSTS = defineCollection('hosts', HostState, { isHeld: true });
export const TOKENS = defineCollection('tokens', TokenState);
/** Facts about the hub itself. */
export const META = defineCollection('meta', v.string());
