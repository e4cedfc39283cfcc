/** The rollouts of a hub, wired to its fleet. */
import { randomBytes } from 'node:crypto';
import type { Registry } from '@prometheus-io/client';
import type { Clock } from '../../shared/clock.ts';
import type { HubLogger } from '../logger.ts';
import type { HostSession } from '../rpc/dispatcher.ts';
import type { HubState } from '../state.ts';
import { Leases } from '../store/lease.ts';
import { HubActuator } from './hub-actuator.ts';
import { RolloutMetrics } from './rollout-metrics.ts';
import { Rollouts } from './rollouts.ts';

export interface OpenRolloutsOptions {
  readonly state: HubState;
  readonly hubId: string;
  readonly sessionOf: (host: string) => HostSession | undefined;
  readonly logger: HubLogger;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly settleMs: number;
  readonly registry: Registry;
}

/** A hub that stands still for longer may be replaced. */
const LEASE_TTL_MS = 30_000;
const TICK_MS = 200;

export function openRollouts(options: OpenRolloutsOptions): Rollouts {
  const { state, hubId, sessionOf, logger, clock, now, settleMs, registry } = options;
  const { store, bus, commandBook: commands } = state;
  const bootId = randomBytes(12).toString('base64url');
  return new Rollouts({
    store,
    bus,
    leases: new Leases({ store, hubId, bootId, ttlMs: LEASE_TTL_MS, now }),
    leaseTtlMs: LEASE_TTL_MS,
    actuator: new HubActuator({ session: sessionOf, bus }),
    commands,
    clock,
    now,
    logger,
    settleMs,
    tickMs: TICK_MS,
    metrics: new RolloutMetrics(registry),
  });
}
