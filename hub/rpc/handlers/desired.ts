/** Methods about desired state. */
import type { DESIRED_METHODS } from '../../../shared/protocol/methods-desired.ts';
import type { DesiredFleet } from '../../desired/desired-fleet.ts';
import type { HubHandlersOf } from './types.ts';

export function desiredHandlers(desired: DesiredFleet): HubHandlersOf<typeof DESIRED_METHODS> {
  return {
    'fleet.apply': (params, { caller }) => desired.apply(params, caller.principal.tokenId),
    'fleet.list': () => desired.list(),
    'fleet.get': ({ name }) => desired.get(name),
    'fleet.remove': async ({ name }) => {
      await desired.remove(name);
      return {};
    },
  };
}
