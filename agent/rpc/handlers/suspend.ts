/** Methods that put a VM to sleep, and keep it from that. */
import type { SUSPEND_METHODS } from '../../../shared/protocol/methods-suspend.ts';
import type { Vms } from '../../vm/api.ts';
import type { HandlersOf } from './types.ts';

export function suspendHandlers(vms: Vms): HandlersOf<typeof SUSPEND_METHODS> {
  return {
    'vm.suspend': ({ vm, durability }, { signal, timeoutMs }) => vms.suspend(vm, { durability, signal, timeoutMs }),
    'vm.hold': ({ vm, forMs }, { signal, timeoutMs }) => vms.hold(vm, { forMs, signal, timeoutMs }),
  };
}
