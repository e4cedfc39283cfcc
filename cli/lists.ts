/** Whole lists, page after page, and the rows that several hosts give together. */
import type { ParamsInput } from '../shared/protocol/methods.ts';
import type { FleetVm, HostRecord } from '../shared/protocol/methods-fleet.ts';
import type { VmInfo } from '../shared/protocol/vm.ts';
import type { HubConnection } from './connection.ts';

export type VmRow = VmInfo & { readonly host: string };

export async function allHosts(hub: HubConnection, filter: ParamsInput<'host.list'> = {}): Promise<HostRecord[]> {
  const rows: HostRecord[] = [];
  for (let after: string | undefined; ; ) {
    const page = await hub.call('host.list', after === undefined ? filter : { ...filter, after });
    rows.push(...page.hosts);
    if (page.next === undefined) return rows;
    after = page.next;
  }
}

async function allVmsOf(hub: HubConnection, host: string): Promise<VmRow[]> {
  const rows: VmRow[] = [];
  for (let after: string | undefined; ; ) {
    const page = await hub.call('vm.list', after === undefined ? {} : { after }, host);
    rows.push(...page.vms.map((vm) => ({ ...vm, host })));
    if (page.next === undefined) return rows;
    after = page.next;
  }
}

/**
 * The VMs of one host, or of every connected one. A host that is away, or drops away while it is asked, hides nobody else's VMs: it is told
 * to `onUnreachable`, unless it dropped away and was the only one.
 */
export async function allVms(
  hub: HubConnection,
  host: string | undefined,
  onUnreachable: (host: string, error: unknown) => void,
): Promise<VmRow[]> {
  if (host !== undefined) return allVmsOf(hub, host);
  const hosts = await allHosts(hub);
  for (const row of hosts) if (!row.connected) onUnreachable(row.host, new Error('it has no line to the hub'));
  const names = hosts.filter((row) => row.connected).map((row) => row.host);
  const answers = await Promise.allSettled(names.map((name) => allVmsOf(hub, name)));
  const rows: VmRow[] = [];
  for (const [index, answer] of answers.entries()) {
    if (answer.status === 'fulfilled') rows.push(...answer.value);
    else if (names.length === 1) throw answer.reason;
    else onUnreachable(names[index] ?? '', answer.reason);
  }
  return rows.toSorted((a, b) => a.name.localeCompare(b.name) || a.host.localeCompare(b.host));
}

/** VMs of the fleet as the hub knows them: those of hosts that are away included, and no host is asked. */
export async function fleetVms(hub: HubConnection, filter: ParamsInput<'vm.find'>): Promise<FleetVm[]> {
  const rows: FleetVm[] = [];
  for (let after: string | undefined; ; ) {
    const page = await hub.call('vm.find', after === undefined ? filter : { ...filter, after });
    rows.push(...page.vms);
    if (page.next === undefined) return rows;
    after = page.next;
  }
}
