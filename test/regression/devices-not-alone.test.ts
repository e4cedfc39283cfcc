/**
 * An attach and then a detach of the same disk, both cut off by a crash: what the VM has tells of the later one alone. The attach was told
 * as not done although it had happened, and a repeat of it would have put the disk back that was to go.
 */
import { describe, expect, it } from 'vitest';
import { reconcilerOf } from '../../agent/rpc/reconcile.ts';
import { deviceReconcilers } from '../../agent/rpc/reconcile-devices.ts';
import type { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';
import { accepted } from '../support/journal-commands.ts';

const DISK = { path: '/d.raw', format: 'raw' };
const NETWORK = { type: 'user' };

const COMMANDS = [
  ['disk.attach', { id: 'data', disk: DISK }],
  ['disk.detach', { id: 'data' }],
  ['network.attach', { id: 'lan', network: NETWORK }],
  ['network.detach', { id: 'lan' }],
  ['vsock.attach', { vsock: { cid: 7 } }],
  ['vsock.detach', {}],
  ['disk.resize', { id: 'data', bytes: 1024 }],
  ['disk.throttle', { id: 'data', limits: { iops: 10 } }],
  ['medium.change', { id: 'cd', path: null }],
] as const;

async function settled(method: string, params: object, found: unknown, isAlone: boolean) {
  const operation = accepted('c1', { method, params: { vm: 'web', ...params } });
  const vms = new FakeVms([]);
  vms.infos.push(fakeVmInfo('web'));
  // SAFETY: all that the rules for devices ask of them.
  const devices = { find: async () => found, look: async () => found } as unknown as DeviceOperations;
  return reconcilerOf(vms, deviceReconcilers(devices))(operation, { isAlone });
}

describe('what became of a command on devices', () => {
  it.each([
    ['of what is there no more', undefined],
    ['of what is there', { id: 'data', ...DISK }],
  ])('is not told where another command of the same VM may have made it: %s', async (_, found) => {
    for (const [method, params] of COMMANDS) {
      const { outcome, reason } = await settled(method, params, found, false);
      expect({ method, outcome, reason }).toEqual({
        method,
        outcome: 'unknown',
        reason: 'another command for the same VM was under way, and may have made it',
      });
    }
  });

  it('is told by what the VM has where it was the only one', async () => {
    expect(await settled('disk.attach', { id: 'data', disk: DISK }, undefined, true)).toMatchObject({ outcome: 'not-done' });
    expect(await settled('disk.detach', { id: 'data' }, undefined, true)).toMatchObject({ outcome: 'done' });
    expect(await settled('disk.detach', { id: 'data' }, DISK, true)).toMatchObject({ outcome: 'not-done' });
  });
});
