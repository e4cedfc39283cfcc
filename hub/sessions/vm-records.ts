/** The inventory in the store: read at the start, written as it changes. A host that comes back tells all of it anew, so that nothing waits. */
import * as v from 'valibot';
import { Name } from '../../shared/protocol/common.ts';
import { defineCollection, type Store } from '../store/store.ts';
import { Inventory, ReportedVm } from './inventory.ts';

const VMS = defineCollection('vms', v.strictObject({ host: Name, vm: ReportedVm }));

export interface OpenInventoryOptions {
  readonly store: Store;
  readonly maxVmsPerHost: number;
  /** What could not be written. */
  readonly onFault: (error: unknown) => void;
}

export async function openInventory({ store, maxVmsPerHost, onFault }: OpenInventoryOptions): Promise<Inventory> {
  const records = store.collection(VMS);
  let isLoading = true;
  const inventory = new Inventory(maxVmsPerHost, (host, name, vm) => {
    if (isLoading) return;
    const key = `${host}/${name}`;
    const written = vm === undefined ? records.discard(key) : records.put(key, { host, vm });
    written.catch(onFault);
  });
  for (const { value } of await records.list()) inventory.set(value.host, value.vm);
  isLoading = false;
  return inventory;
}
