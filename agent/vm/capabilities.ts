/** What can be done with a VM on this host, and for what cannot, why. */
import type { Result } from '../../shared/protocol/methods.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES } from '../../shared/protocol/vm-spec-machines.ts';
import type { HostVsock } from './api.ts';

export function capabilitiesOf(spec: VmSpec, vsock: HostVsock): Result<'vm.capabilities'> {
  const reasons: Record<string, string> = {};
  const snapshot = spec.pciDevices.length === 0;
  if (!snapshot) reasons['snapshot'] = 'the state of devices that are passed through cannot be saved';
  const memoryHotplug = spec.memory.maxBytes !== undefined || spec.devices.balloon;
  if (!memoryHotplug) reasons['memoryHotplug'] = 'the spec has neither a balloon nor memory.maxBytes';
  const deviceHotplug = MACHINE_FEATURES[spec.machine].hotplug;
  if (!deviceHotplug) reasons['deviceHotplug'] = `${spec.machine} has no ports for devices that come and go`;
  const hasVsock = spec.vsock !== undefined && vsock.available;
  if (spec.vsock === undefined) reasons['vsock'] = 'the spec has no vsock';
  else if (!vsock.available) reasons['vsock'] = vsock.reason;
  const vsockHalfClose = hasVsock && vsock.transport.halfClose;
  if (!vsockHalfClose) reasons['vsockHalfClose'] = reasons['vsock'] ?? 'the vhost-user transport loses data on a half-close';
  return {
    pause: true,
    snapshot,
    memoryHotplug,
    deviceHotplug,
    vsock: hasVsock,
    vsockHalfClose,
    pciPassthrough: true,
    diskThrottle: true,
    reasons,
  };
}
