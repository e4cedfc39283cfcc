/** Methods about rollouts, answered by the hub. Orders are durable when they are answered, and the second of two equal ones changes nothing. */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { PageParams, pageOf } from './paging.ts';
import { RolloutEvent } from './rollout-events.ts';
import { RolloutForecast } from './rollout-plan.ts';
import { RollbackScope, RolloutSpec } from './rollout-spec.ts';
import { HostPhase, RolloutHost, RolloutStatus, RolloutSummary } from './rollout-status.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;

const Reason = v.pipe(v.string(), v.maxLength(500));
const ORDER = { rollout: Name, reason: v.optional(Reason, '') } as const;

const order = {
  ...hubCall,
  role: 'operator',
  idempotent: true,
  result: RolloutSummary,
  errors: ['NOT_FOUND', 'WRONG_STATE', 'STORAGE_FAILED'],
} as const;

const Freeze = v.strictObject({ by: v.string(), reason: v.string(), at: Timestamp });
const FreezeState = v.strictObject({ frozen: v.optional(Freeze) });

export const ROLLOUT_METHODS = {
  'rollout.plan': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'What a rollout would do: waves, canary, worst case of each zone, duration; nothing is started or kept',
    params: v.strictObject({ rollout: v.optional(Name, 'plan'), spec: RolloutSpec }),
    result: RolloutForecast,
    errors: ['NOT_FOUND'],
  },
  'rollout.start': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Start a rollout over the hosts that its selector names now; the same id and spec again starts nothing',
    params: v.strictObject({
      rollout: Name,
      spec: RolloutSpec,
      /** Of the plan that was looked at: refused when the selector names other hosts by now. */
      hostsDigest: v.optional(v.pipe(v.string(), v.maxLength(64))),
    }),
    result: RolloutSummary,
    errors: ['NOT_FOUND', 'CONFLICT', 'STORAGE_FAILED'],
  },
  'rollout.pause': { ...order, summary: 'Start no further host; what is under way ends', params: v.strictObject(ORDER) },
  'rollout.resume': { ...order, summary: 'Let a paused rollout go on', params: v.strictObject(ORDER) },
  'rollout.abort': {
    ...order,
    summary: 'End a rollout where it is; hosts keep what they have',
    params: v.strictObject(ORDER),
  },
  'rollout.rollback': {
    ...order,
    summary: 'Take hosts back to what was recorded of them, newest first',
    params: v.strictObject({ ...ORDER, scope: v.optional(RollbackScope) }),
    errors: ['NOT_FOUND', 'CONFLICT', 'STORAGE_FAILED'],
  },
  'rollout.promote': {
    ...order,
    summary: 'Leave the soak or gate of a wave as if it had been passed',
    params: v.strictObject({ ...ORDER, reason: v.pipe(Reason, v.minLength(1)), wave: v.optional(Count) }),
  },
  'rollout.approve': {
    ...order,
    summary: 'Approve what the rollout asks people for',
    params: v.strictObject({ ...ORDER, wave: v.optional(Count) }),
  },
  'rollout.retryFailed': {
    ...order,
    summary: 'Try the failed hosts of a rollout once more',
    params: v.strictObject(ORDER),
    errors: ['NOT_FOUND', 'WRONG_STATE', 'CONFLICT', 'STORAGE_FAILED'],
  },
  'rollout.skip': {
    ...order,
    summary: 'Leave out a host that was not started, or count a failed one as seen to',
    params: v.strictObject({ ...ORDER, host: Name }),
  },
  'rollout.rate': {
    ...order,
    summary: 'Change how many hosts may be under way at once',
    params: v.strictObject({ ...ORDER, maxInFlight: v.pipe(Count, v.minValue(1), v.maxValue(10_000)) }),
  },
  'rollout.get': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'How a rollout stands',
    params: v.strictObject({ rollout: Name }),
    result: RolloutSummary,
    errors: ['NOT_FOUND'],
  },
  'rollout.list': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Every rollout, newest first',
    params: v.strictObject({ limit: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(1000)), 100) }),
    result: v.strictObject({
      rollouts: v.array(
        v.strictObject({
          rollout: Name,
          name: v.string(),
          status: RolloutStatus,
          startedBy: v.string(),
          startedAt: Timestamp,
          endedAt: v.optional(Timestamp),
          hosts: Count,
        }),
      ),
    }),
    errors: [],
  },
  'rollout.hosts': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'How each host of a rollout fares, by name',
    params: v.strictObject({ rollout: Name, phase: v.optional(HostPhase), ...PageParams.entries }),
    result: pageOf('hosts', RolloutHost),
    errors: ['NOT_FOUND'],
  },
  'rollout.events': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary:
      'The journal of a rollout; with follow each new event arrives as progress until the rollout ends or the call is cancelled',
    params: v.strictObject({
      rollout: Name,
      /** Only events after this number. */
      since: v.optional(Count, 0),
      limit: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(1000)), 256),
      follow: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({ events: v.array(RolloutEvent), lastSeq: Count }),
    progress: RolloutEvent,
    errors: ['NOT_FOUND'],
  },
  'rollout.freeze': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Start no host in any rollout; taking back goes on',
    params: v.strictObject({ reason: v.pipe(Reason, v.minLength(1)) }),
    result: FreezeState,
    errors: ['STORAGE_FAILED'],
  },
  'rollout.unfreeze': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Let rollouts go on',
    params: v.strictObject({}),
    result: FreezeState,
    errors: ['STORAGE_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
