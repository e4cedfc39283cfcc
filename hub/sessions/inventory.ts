/**
 * Which host has a VM of which name, so that an operator need not say it. Only names are kept: everything else is asked of the host.
 *
 * It is told by the hosts (their list at connect, their events from then on) and may be a moment behind; a host's own answer always
 * counts. What a host had is remembered while it is away, so that the error can name it.
 */
export class Inventory {
  readonly #maxPerHost: number;
  readonly #vmsByHost = new Map<string, Set<string>>();
  readonly #hostsByVm = new Map<string, Set<string>>();

  constructor(maxPerHost: number) {
    this.#maxPerHost = maxPerHost;
  }

  hostsOf(vm: string): readonly string[] {
    return [...(this.#hostsByVm.get(vm) ?? [])].sort();
  }

  /** False when the host has more VMs than are remembered. */
  add(host: string, vm: string): boolean {
    const vms = this.#vmsByHost.get(host) ?? new Set();
    if (vms.has(vm)) return true;
    if (vms.size >= this.#maxPerHost) return false;
    this.#vmsByHost.set(host, vms.add(vm));
    this.#hostsByVm.set(vm, (this.#hostsByVm.get(vm) ?? new Set()).add(host));
    return true;
  }

  remove(host: string, vm: string): void {
    this.#vmsByHost.get(host)?.delete(vm);
    const hosts = this.#hostsByVm.get(vm);
    hosts?.delete(host);
    if (hosts?.size === 0) this.#hostsByVm.delete(vm);
  }

  /** Makes `vms` all that the host has. */
  replace(host: string, vms: Iterable<string>): boolean {
    this.forget(host);
    return [...vms].every((vm) => this.add(host, vm));
  }

  forget(host: string): void {
    for (const vm of this.#vmsByHost.get(host) ?? []) this.remove(host, vm);
    this.#vmsByHost.delete(host);
  }
}
