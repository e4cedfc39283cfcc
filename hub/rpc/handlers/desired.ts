/** Methods about desired state. */
import type { DESIRED_METHODS } from '../../../shared/protocol/methods-desired.ts';
import type { DesiredFleet } from '../../desired/desired-fleet.ts';
import type { Images } from '../../images/images.ts';
import type { HubHandlersOf } from './types.ts';

export function desiredHandlers(desired: DesiredFleet, images: Images): HubHandlersOf<typeof DESIRED_METHODS> {
  return {
    'fleet.apply': async ({ document, dryRun }, { caller }) => {
      const vms = await Promise.all(document.vms.map(async (vm) => ({ ...vm, spec: await images.resolvedSpec(vm.spec) })));
      return desired.apply({ document: { ...document, vms }, dryRun }, caller.principal.tokenId);
    },
    'fleet.list': () => desired.list(),
    'fleet.get': ({ name }) => desired.get(name),
    'fleet.remove': async ({ name }) => {
      await desired.remove(name);
      return {};
    },
  };
}
