/**
 * An agent that dies between what it did and the telling leaves a VM that no event tells of, or events of a VM that is gone. The next agent
 * tells both, late: every VM has been told as created, and whatever is told of last and is not there as deleted.
 */
import type { EventLog } from './events.ts';
import type { VmRecord } from './store.ts';

interface Announced {
  readonly name: string;
  readonly record: VmRecord;
  announce(): void;
}

/** Once, with all VMs that were found on disk, before anything else is told of them. `broken` are there too, and cannot be read. */
export function tellLate(events: EventLog, vms: readonly Announced[], broken: ReadonlySet<string>): void {
  for (const vm of vms) {
    // One that has been started was told as created by the agent that was asked to start it.
    const { state, generation, createdAt } = vm.record;
    const isNew = state === 'created' && generation === 0;
    if (isNew && !events.mayHaveTold(vm.name, 'vm.created', createdAt)) vm.announce();
  }
  const there = new Set([...vms.map(({ name }) => name), ...broken]);
  for (const name of events.vms) {
    const last = events.lastOf(name);
    if (last === undefined || last.type === 'vm.deleted' || there.has(name)) continue;
    events.append({ vm: name, type: 'vm.deleted', state: last.state, data: { generation: last.data.generation } });
  }
}
