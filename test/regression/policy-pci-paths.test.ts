/**
 * Symptom: a hub could pass any PCI device through on a host whose policy allowed some by a path and `*`.
 * Cause: the path was compared as text, and led elsewhere by `..`; of a path of PCI devices only the last part counts.
 */
import { expect, test } from 'vitest';
import { Policy } from '../../agent/rpc/policy.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec } from '../support/vm.ts';

const policy = new Policy({
  ...OPEN_POLICY,
  pciDevices: ['/sys/bus/mdev/devices/*', '/sys/bus/pci/devices/0000:03:*', '0000:03:*'],
});

test.each([
  '/sys/bus/mdev/devices/../../pci/devices/0000:01:00.0',
  '/sys/bus/pci/devices/0000:03:00.0/../0000:01:00.0',
  '/sys/bus/pci/devices/0000:03:/0000:01:00.0',
  '0000:03:00.0/../../0000:01:00.0',
  '0000:03:',
])('%s is no device that may be passed through', async (device) => {
  await expect(policy.checkSpec(spec({ name: 'a', pciDevices: [device] }))).rejects.toThrow('pciDevices');
});

test.each(['/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '/sys/bus/pci/devices/0000:03:00.1/', '0000:03:1f.7'])(
  '%s may be',
  async (device) => {
    await expect(policy.checkSpec(spec({ name: 'a', pciDevices: [device] }))).resolves.toBeUndefined();
  },
);
