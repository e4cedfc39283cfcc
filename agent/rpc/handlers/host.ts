/** Methods that tell of the host. */
import type { HOST_METHODS } from '../../../shared/protocol/methods-host.ts';
import type { Vms } from '../../vm/api.ts';
import type { HandlersOf } from './types.ts';

export function hostHandlers(vms: Vms): HandlersOf<typeof HOST_METHODS> {
  return {
    'host.info': (_params, context) => vms.hostInfo(context),
  };
}
