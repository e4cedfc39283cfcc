/** Methods about the hosts of the fleet, and their VMs as the hub knows them. */
import { FairleadError } from '../../../shared/errors.ts';
import { Labels } from '../../../shared/protocol/common.ts';
import type { HostEventType } from '../../../shared/protocol/fleet-events.ts';
import { hasLabels, isSelected } from '../../../shared/protocol/host-selector.ts';
import type { FLEET_METHODS, FleetVm } from '../../../shared/protocol/methods-fleet.ts';
import { pageFrom } from '../../../shared/protocol/paging.ts';
import { parseWith } from '../../../shared/protocol/parse-with.ts';
import type { Commands } from '../../commands/commands.ts';
import { drainVms } from '../../commands/drain.ts';
import type { DesiredFleet } from '../../desired/desired-fleet.ts';
import type { HubState } from '../../state.ts';
import { HOSTS, type HostState } from '../../store/records.ts';
import { removeLatest } from '../../store/store.ts';
import { hostRecord, type LiveHost } from '../host-record.ts';
import type { HubHandlersOf } from './types.ts';

export interface FleetServices extends Pick<HubState, 'store' | 'inventory' | 'events' | 'bus'> {
  readonly commands: Commands;
  readonly desired: Pick<DesiredFleet, 'give'>;
  /** Why a host cannot be reached. */
  unreachable(host: string): Promise<FairleadError>;
  liveHost(host: string): LiveHost | undefined;
  /** Closes the host's line, if it has one, and forgets what it had. */
  disconnectHost(host: string): void;
  /** Unix milliseconds. */
  now(): number;
}

export function fleetHandlers(services: FleetServices): HubHandlersOf<typeof FLEET_METHODS> {
  const { store, inventory, events, bus, commands, desired, unreachable, liveHost, disconnectHost, now } = services;
  const hosts = store.collection(HOSTS);
  const record = (state: HostState) => hostRecord(state, liveHost(state.host));

  /** Changes the host's record and tells it. `change` gives undefined where nothing is to be done. */
  async function change(host: string, type: HostEventType, to: (state: HostState) => HostState | undefined) {
    const changed = await hosts.modify(host, to);
    if (changed !== undefined) {
      const { labels, cordoned } = changed;
      await events.append(host, [{ type, data: type === 'host.labelled' ? { labels } : { ...cordoned } }]);
      bus.publish('host.changed', { host });
    }
    const state = changed ?? (await hosts.get(host))?.value;
    if (state === undefined) throw notEnrolled(host);
    return record(state);
  }

  return {
    'host.list': async ({ connected, cordoned, hosts: named, labels, ...page }) => {
      const selected = (await hosts.list())
        .map(({ value }) => value)
        .filter((state) => isSelected(state, { labels, ...(named === undefined ? {} : { hosts: named }) }))
        .filter(({ host }) => connected === undefined || connected === (liveHost(host) !== undefined))
        .filter((state) => cordoned === undefined || cordoned === (state.cordoned !== undefined));
      const { rows, next } = pageFrom(selected.map(record), ({ host }) => host, page);
      return { hosts: [...rows], ...(next === undefined ? {} : { next }) };
    },
    'host.get': async ({ host }) => {
      const stored = await hosts.get(host);
      if (stored === undefined) throw notEnrolled(host);
      return record(stored.value);
    },
    'host.remove': async ({ host }) => {
      if (!(await removeLatest(hosts, host))) throw notEnrolled(host);
      disconnectHost(host);
      await events.append(host, [{ type: 'host.removed', data: {} }]);
      bus.publish('host.changed', { host });
      return {};
    },
    'host.label': ({ host, set, remove }) =>
      change(host, 'host.labelled', (state) => {
        const kept = Object.entries(state.labels).filter(([key]) => !remove.includes(key));
        // Each is within the limit, both together may not be.
        const labels = parseWith(Labels, { ...Object.fromEntries(kept), ...set }, 'labels');
        return JSON.stringify(labels) === JSON.stringify(state.labels) ? undefined : { ...state, labels };
      }),
    'host.cordon': ({ host, reason }, { caller }) =>
      change(host, 'host.cordoned', (state) => {
        if (state.cordoned !== undefined) return undefined;
        return { ...state, cordoned: { reason, by: caller.principal.tokenId, atMs: now(), drained: false } };
      }),
    'host.drain': async (params, { caller, context }) => {
      const { host, reason } = params;
      const actor = caller.principal.tokenId;
      if (liveHost(host) === undefined) throw await unreachable(host);
      const drained = await change(host, 'host.cordoned', (state) =>
        state.cordoned?.drained === true
          ? undefined
          : { ...state, cordoned: { reason, by: actor, atMs: now(), ...state.cordoned, drained: true } },
      );
      // Before they are put to rest, or the host would start them again.
      await desired.give(host);
      const vms = inventory.vmsOf(host);
      return { host: drained, ...(await drainVms(params, { commands, vms, actor, context })) };
    },
    'host.uncordon': ({ host }) =>
      change(host, 'host.uncordoned', ({ cordoned, ...state }) => (cordoned === undefined ? undefined : state)),
    'vm.find': async ({ vm, state, labels, on, ...page }) => {
      const rows: FleetVm[] = [];
      for (const { value } of await hosts.list()) {
        if (!isSelected(value, on)) continue;
        const { host } = value;
        const connected = liveHost(host) !== undefined;
        for (const { name, ...reported } of inventory.vmsOf(host)) {
          if (vm !== undefined && vm !== name) continue;
          if ((state !== undefined && state !== reported.state) || !hasLabels(reported.labels, labels)) continue;
          rows.push({ host, vm: name, connected, ...reported });
        }
      }
      const { rows: vms, next } = pageFrom(rows, (row) => `${row.host}/${row.vm}`, page);
      return { vms: [...vms], ...(next === undefined ? {} : { next }) };
    },
  };
}

function notEnrolled(host: string): FairleadError {
  return new FairleadError('NOT_FOUND', `no host ${host} is enrolled`);
}
