/** Every method that this agent answers, one group of the contract's table after another. */

import type { Upkeep } from '../../desired/upkeep.ts';
import type { ImagesOnDemand } from '../../images/on-demand.ts';
import type { Updates } from '../../update/updates.ts';
import type { Vms } from '../../vm/api.ts';
import type { DeviceOperations } from '../../vm/devices/device-operations.ts';
import type { Guests } from '../../vm/guest-agent/guests.ts';
import type { Snapshots } from '../../vm/snapshot/snapshots.ts';
import type { Policy } from '../policy.ts';
import { agentHandlers } from './agent.ts';
import { blobHandlers } from './blob.ts';
import { deviceHandlers } from './devices.ts';
import { diskImageHandlers } from './disk-images.ts';
import { guestHandlers } from './guest.ts';
import { hostHandlers } from './host.ts';
import { memoryHandlers } from './memory.ts';
import { migrationHandlers } from './migration.ts';
import { type OperationBook, operationHandlers } from './operation.ts';
import { snapshotHandlers } from './snapshot.ts';
import { suspendHandlers } from './suspend.ts';
import type { Handlers } from './types.ts';
import { vmHandlers } from './vm.ts';

export function allHandlers(
  vms: Vms,
  policy: Policy,
  guests: Guests,
  operations: OperationBook,
  devices: DeviceOperations,
  snapshots: Snapshots,
  images: ImagesOnDemand,
  upkeep: Upkeep,
  updates: Updates,
): Handlers {
  return {
    ...hostHandlers(vms),
    ...agentHandlers(updates),
    ...vmHandlers(vms, policy, images),
    ...blobHandlers(images),
    ...suspendHandlers(vms),
    ...snapshotHandlers(snapshots),
    ...memoryHandlers(vms),
    ...migrationHandlers(vms, policy),
    ...deviceHandlers(devices, images),
    ...diskImageHandlers(snapshots),
    ...guestHandlers(guests),
    ...operationHandlers(operations),
    ...upkeep.handlers,
  };
}
