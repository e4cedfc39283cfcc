/** Methods that tell of the host. */
import type { Vms } from '../../vm/api.ts';
import type { Handlers } from './types.ts';

export function hostHandlers(vms: Vms): Pick<Handlers, 'host.info'> {
  return {
    'host.info': (_params, context) => vms.hostInfo(context),
  };
}
