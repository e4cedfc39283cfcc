/** Methods that change the devices of a running VM. */
import type { DEVICE_METHODS } from '../../../shared/protocol/methods-devices.ts';
import type { DeviceOperations } from '../../vm/devices/device-operations.ts';
import type { HandlersOf } from './types.ts';

export function deviceHandlers(devices: DeviceOperations): HandlersOf<typeof DEVICE_METHODS> {
  return {
    'disk.attach': (params, context) => devices.attachDisk(params, context),
    'disk.detach': (params, context) => devices.detachDisk(params, context),
    'disk.resize': (params, context) => devices.resizeDisk(params, context),
    'disk.throttle': (params, context) => devices.throttleDisk(params, context),
    'medium.change': (params, context) => devices.changeMedium(params, context),
    'network.attach': (params, context) => devices.attachNetwork(params, context),
    'network.detach': (params, context) => devices.detachNetwork(params, context),
    'vsock.attach': (params, context) => devices.attachVsock(params, context),
    'vsock.detach': (params, context) => devices.detachVsock(params, context),
  };
}
