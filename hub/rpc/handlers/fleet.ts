/** Methods about the hosts of the fleet. */
import { FairleadError } from '../../../shared/errors.ts';
import type { FLEET_METHODS, HostRecord } from '../../../shared/protocol/methods-fleet.ts';
import { pageFrom } from '../../../shared/protocol/paging.ts';
import { HOSTS, type HostState } from '../../store/records.ts';
import { removeLatest, type Store } from '../../store/store.ts';
import type { HubHandlersOf } from './types.ts';

/** What a session adds to what the store knows of a host. */
export interface LiveHost {
  readonly rttMs: number | undefined;
  readonly remoteAddress: string;
}

export interface FleetServices {
  readonly store: Store;
  liveHost(host: string): LiveHost | undefined;
  /** Closes the host's line, if it has one. */
  disconnectHost(host: string): void;
}

export function fleetHandlers({ store, liveHost, disconnectHost }: FleetServices): HubHandlersOf<typeof FLEET_METHODS> {
  const hosts = store.collection(HOSTS);
  const record = (state: HostState) => hostRecord(state, liveHost(state.host));
  return {
    'host.list': async (params) => {
      const records = (await hosts.list()).map(({ value }) => record(value));
      const { rows, next } = pageFrom(records, ({ host }) => host, params);
      return { hosts: [...rows], ...(next === undefined ? {} : { next }) };
    },
    'host.get': async ({ host }) => {
      const stored = await hosts.get(host);
      if (stored === undefined) throw new FairleadError('NOT_FOUND', `no host ${host} is enrolled`);
      return record(stored.value);
    },
    'host.remove': async ({ host }) => {
      if (!(await removeLatest(hosts, host))) throw new FairleadError('NOT_FOUND', `no host ${host} is enrolled`);
      disconnectHost(host);
      return {};
    },
  };
}

function hostRecord(state: HostState, live: LiveHost | undefined): HostRecord {
  const { host, labels, epoch, agentVersion, contractVersion, enrolledAtMs, lastSeenAtMs } = state;
  return {
    host,
    connected: live !== undefined,
    labels,
    enrolledAt: new Date(enrolledAtMs).toISOString(),
    epoch,
    ...(lastSeenAtMs === undefined ? {} : { lastSeenAt: new Date(lastSeenAtMs).toISOString() }),
    ...(agentVersion === undefined ? {} : { agentVersion }),
    ...(contractVersion === undefined ? {} : { contractVersion }),
    ...(live === undefined ? {} : { remoteAddress: live.remoteAddress }),
    ...(live?.rttMs === undefined ? {} : { rttMs: live.rttMs }),
  };
}
