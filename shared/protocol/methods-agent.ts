/** The agent itself: which release of it a host runs, and changing it for another. */
import * as v from 'valibot';
import { Count, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { ImageName } from './image-ref.ts';
import { ReleaseName } from './release.ts';

const hostCall = { target: 'agent', kind: 'call', since: 1 } as const;

export const AgentRelease = v.strictObject({
  version: v.string(),
  /** False where nobody would start another release: the agent was not begun by `fairlead launch`. */
  updatable: v.boolean(),
  release: ReleaseName,
  previous: v.optional(ReleaseName),
  /** Until it has proved itself. */
  onTrial: v.boolean(),
  /** How often in a row it has crashed lately before it was connected for half a minute. */
  crashes: v.optional(Count),
  /** A release that had been kept, and was left for this one because it crashed over and over. */
  fallback: v.optional(v.strictObject({ release: ReleaseName, failure: v.string(), at: Timestamp })),
  /** The newest. */
  lastUpdate: v.optional(
    v.strictObject({ commandId: v.string(), release: ReleaseName, failure: v.optional(v.string()), at: Timestamp }),
  ),
});

export const AGENT_METHODS = {
  'agent.release': {
    ...hostCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Which release of the agent the host runs',
    params: v.strictObject({}),
    result: AgentRelease,
    errors: [],
  },
  'agent.update': {
    ...hostCall,
    role: 'admin',
    idempotent: true,
    summary:
      'Change the agent for another release, which is fetched from the hub and tried; one that does not prove itself in time is left for the one before. VMs run on, streams end',
    params: v.strictObject({
      /** Agents know digests; a tag is for the hub, which sends on what it stands for. */
      release: v.union([ImageName, v.literal('installed')]),
      /** Of `fairlead release sign`; asked for by hosts that have `releaseKeys`. */
      signature: v.optional(v.pipe(v.string(), v.maxLength(128), v.regex(/^[A-Za-z0-9_-]+$/))),
      /** By when it must have adopted the VMs and have a line to the hub. */
      healthTimeoutMs: v.optional(v.pipe(Count, v.minValue(1000), v.maxValue(600_000)), 60_000),
    }),
    result: v.strictObject({ release: ReleaseName, version: v.string(), previous: v.optional(ReleaseName) }),
    progress: v.strictObject({ doneBytes: Count, totalBytes: Count }),
    errors: ['UNSUPPORTED', 'UPDATE_FAILED', 'STORAGE_FAILED', 'CONFLICT'],
  },
} as const satisfies Record<string, MethodContract>;
