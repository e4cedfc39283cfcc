/** The journal before a dispatcher, in memory. */
import type { Journal } from '../../agent/journal/journal.ts';
import { Once, type OnceOptions } from '../../agent/rpc/once.ts';
import { lookAt, reconcilerOf } from '../../agent/rpc/reconcile.ts';
import type { Vms } from '../../agent/vm/api.ts';
import { testJournal } from './journal-files.ts';
import { silent } from './vm.ts';

export function onceOf(
  vms: Vms,
  options: Partial<OnceOptions> & { journal?: Journal } = {},
): { readonly once: Once; readonly journal: Journal } {
  const journal = options.journal ?? testJournal();
  const look = (vm: string) => lookAt(vms, vm);
  return { journal, once: new Once({ host: 'edge-1', logger: silent, look, reconcile: reconcilerOf(vms), ...options, journal }) };
}
