/** What people do by hand counts against the budgets of rollouts, too: a host that is drained, and one on which a command stops a VM. */
import type { Bus } from '../bus.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Availability } from './availability.ts';

/** Commands by which a VM stands still, for as long as they run. */
const DISRUPTIVE: ReadonlySet<string> = new Set([
  'vm.stop',
  'vm.reset',
  'vm.powerdown',
  'vm.pause',
  'vm.suspend',
  'vm.delete',
  'vm.restore',
  'vm.migrate',
]);
const DRAINED = 'drained';

export interface ClaimsOfPeopleOptions {
  readonly bus: Bus;
  readonly store: Store;
  readonly availability: Availability;
  /** The host counts as other than before. */
  readonly onChange: (host: string) => void;
  readonly onFault: (error: unknown) => void;
}

export class ClaimsOfPeople implements Disposable {
  readonly #options: ClaimsOfPeopleOptions;
  readonly #scope = new DisposableStack();

  constructor(options: ClaimsOfPeopleOptions) {
    this.#options = options;
    const { bus, onFault } = options;
    this.#scope.use(bus.subscribe('command.begun', ({ host, id, method }) => this.#command(host, id, DISRUPTIVE.has(method))));
    this.#scope.use(bus.subscribe('command.ended', ({ host, id }) => this.#command(host, id, false)));
    this.#scope.use(bus.subscribe('host.changed', ({ host }) => void this.#look(host).catch(onFault)));
  }

  /** As it is at the start. */
  async load(): Promise<void> {
    for (const { value } of await this.#options.store.collection(HOSTS).list()) this.#set(value);
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }

  async #look(host: string): Promise<void> {
    const stored = await this.#options.store.collection(HOSTS).get(host);
    if (stored !== undefined) this.#set(stored.value);
    else this.#claim(host, DRAINED, false);
  }

  #set({ host, cordoned }: HostState): void {
    this.#claim(host, DRAINED, cordoned?.drained === true);
  }

  #command(host: string, id: string, runs: boolean): void {
    this.#claim(host, `command ${id}`, runs);
  }

  #claim(host: string, claim: string, isClaimed: boolean): void {
    this.#options.availability.set(host, claim, isClaimed);
    this.#options.onChange(host);
  }
}
