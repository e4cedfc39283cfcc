/** A host as callers see it: what the store keeps of it, with what its session adds. */

import { zoneOf } from '../../shared/protocol/host-selector.ts';
import type { HostRecord } from '../../shared/protocol/methods-fleet.ts';
import type { HostState } from '../store/records.ts';

export interface LiveHost {
  readonly rttMs: number | undefined;
  readonly remoteAddress: string;
}

export function hostRecord(state: HostState, live: LiveHost | undefined): HostRecord {
  const { host, labels, epoch, agentVersion, contractVersion, enrolledAtMs, lastSeenAtMs, capabilities, cordoned } = state;
  const zone = zoneOf(labels);
  return {
    host,
    connected: live !== undefined,
    labels,
    enrolledAt: time(enrolledAtMs),
    epoch,
    ...(zone === undefined ? {} : { zone }),
    ...(lastSeenAtMs === undefined ? {} : { lastSeenAt: time(lastSeenAtMs) }),
    ...(agentVersion === undefined ? {} : { agentVersion }),
    ...(contractVersion === undefined ? {} : { contractVersion }),
    ...(capabilities === undefined ? {} : { capabilities }),
    ...(cordoned === undefined ? {} : { cordoned: cordon(cordoned) }),
    ...(live === undefined ? {} : { remoteAddress: live.remoteAddress }),
    ...(live?.rttMs === undefined ? {} : { rttMs: live.rttMs }),
  };
}

function cordon({ atMs, ...cordoned }: NonNullable<HostState['cordoned']>): NonNullable<HostRecord['cordoned']> {
  return { ...cordoned, at: time(atMs) };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}
