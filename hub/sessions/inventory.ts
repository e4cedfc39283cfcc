/**
 * The VMs of the fleet as their hosts reported them: which host has a VM of which name, so that an operator need not say it, and how it
 * stands, so that all hosts need not be asked. A host's own answer always counts.
 *
 * It is told by the hosts (their list at connect, their events from then on) and may be a moment behind. What a host had is remembered while
 * it is away, and over a restart of the hub.
 */
import * as v from 'valibot';
import { Count, Labels, Name } from '../../shared/protocol/common.ts';

export const ReportedVm = v.strictObject({
  name: Name,
  /** Of the supervisor's machine; a newer agent may know more than we do. */
  state: v.string(),
  ready: v.boolean(),
  generation: Count,
  labels: Labels,
  /** Of a VM that the host was not asked about yet: absent. */
  uuid: v.optional(v.string()),
});
export type ReportedVm = v.InferOutput<typeof ReportedVm>;

/** Told of each VM that is other than before; undefined for one that is gone. */
export type InventoryListener = (host: string, name: string, vm: ReportedVm | undefined) => void;

export class Inventory {
  /** VMs of one host that are remembered. */
  readonly maxPerHost: number;
  readonly #onChange: InventoryListener;
  readonly #vmsByHost = new Map<string, Map<string, ReportedVm>>();
  readonly #hostsByVm = new Map<string, Set<string>>();

  constructor(maxPerHost: number, onChange: InventoryListener = () => {}) {
    this.maxPerHost = maxPerHost;
    this.#onChange = onChange;
  }

  hostsOf(vm: string): readonly string[] {
    return [...(this.#hostsByVm.get(vm) ?? [])].sort();
  }

  get(host: string, vm: string): ReportedVm | undefined {
    return this.#vmsByHost.get(host)?.get(vm);
  }

  vmsOf(host: string): readonly ReportedVm[] {
    return [...(this.#vmsByHost.get(host)?.values() ?? [])];
  }

  hosts(): Iterable<string> {
    return this.#vmsByHost.keys();
  }

  /** False when the host has more VMs than are remembered. */
  set(host: string, vm: ReportedVm): boolean {
    const vms = this.#vmsByHost.get(host) ?? new Map<string, ReportedVm>();
    const before = vms.get(vm.name);
    if (before === undefined && vms.size >= this.maxPerHost) return false;
    if (before !== undefined && isSame(before, vm)) return true;
    this.#vmsByHost.set(host, vms.set(vm.name, vm));
    this.#hostsByVm.set(vm.name, (this.#hostsByVm.get(vm.name) ?? new Set()).add(host));
    this.#onChange(host, vm.name, vm);
    return true;
  }

  remove(host: string, vm: string): void {
    const vms = this.#vmsByHost.get(host);
    if (vms?.delete(vm) !== true) return;
    if (vms.size === 0) this.#vmsByHost.delete(host);
    const hosts = this.#hostsByVm.get(vm);
    hosts?.delete(host);
    if (hosts?.size === 0) this.#hostsByVm.delete(vm);
    this.#onChange(host, vm, undefined);
  }

  /** Makes `vms` all that the host has. False when it has more than are remembered. */
  replace(host: string, vms: readonly ReportedVm[]): boolean {
    const names = new Set(vms.map(({ name }) => name));
    for (const { name } of this.vmsOf(host)) if (!names.has(name)) this.remove(host, name);
    return vms.every((vm) => this.set(host, vm));
  }

  forget(host: string): void {
    for (const { name } of this.vmsOf(host)) this.remove(host, name);
  }
}

function isSame(a: ReportedVm, b: ReportedVm): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
