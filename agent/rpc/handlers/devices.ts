/** Methods that change the devices of a running VM. */
import type { DEVICE_METHODS } from '../../../shared/protocol/methods-devices.ts';
import type { ImagesOnDemand } from '../../images/on-demand.ts';
import type { DeviceOperations } from '../../vm/devices/device-operations.ts';
import type { HandlersOf } from './types.ts';

export function deviceHandlers(devices: DeviceOperations, images: ImagesOnDemand): HandlersOf<typeof DEVICE_METHODS> {
  return {
    'disk.attach': ({ vm, id, disk }, context) =>
      images.placedFile(vm, { ...disk, id }, context, ({ path = disk.path, format }) =>
        devices.attachDisk({ vm, id, disk: { ...disk, path, format } }, context),
      ),
    'disk.detach': (params, context) => devices.detachDisk(params, context),
    'disk.resize': (params, context) => devices.resizeDisk(params, context),
    'disk.throttle': (params, context) => devices.throttleDisk(params, context),
    'medium.change': (params, context) =>
      images.placedFile(params.vm, { ...params, readOnly: true }, context, ({ path, format }) =>
        devices.changeMedium({ ...params, path, format }, context),
      ),
    'network.attach': (params, context) => devices.attachNetwork(params, context),
    'network.detach': (params, context) => devices.detachNetwork(params, context),
    'vsock.attach': (params, context) => devices.attachVsock(params, context),
    'vsock.detach': (params, context) => devices.detachVsock(params, context),
  };
}
