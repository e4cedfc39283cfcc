/** Devices of guests that do not play along, and of machines that cannot: firmware alone, which answers no unplug. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Policy } from '../../agent/rpc/policy.ts';
import { type CheckPolicy } from '../../agent/vm/devices/attach.ts';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { nextEvent, silent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const DETACH_MS = 1_500;

describe.skipIf(missing !== undefined)('a guest that answers no unplug', () => {
  let host: TestHost;
  let devices: DeviceOperations;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-disk-'));
    await writeFile(join(directory, 'data.raw'), Buffer.alloc(1024 ** 2));
    host = await testHost();
    devices = operations();
    devices.watch();
    await host.manager.run(spec({ name: 'deaf' }));
  });
  afterAll(async () => {
    devices[Symbol.dispose]();
    await host[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  function operations(checkPolicy: CheckPolicy = async () => {}): DeviceOperations {
    return new DeviceOperations({ vms: host.manager, logger: silent, checkPolicy });
  }
  const attachment = (vm = 'deaf', id = 'data') =>
    parseParams('disk.attach', { vm, id, disk: { path: join(directory, 'data.raw') } });
  const diskIds = () => host.manager.get('deaf').spec.disks.map(({ id }) => id);
  const detach = (timeoutMs: number) => devices.detachDisk({ vm: 'deaf', id: 'data' }, { timeoutMs });

  test('keeps the device, may be asked again, and lets go of it when it is reset', async () => {
    await devices.attachDisk(attachment(), {});
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(detach(DETACH_MS)).rejects.toMatchObject({
        code: 'GUEST_UNRESPONSIVE',
        message: expect.stringContaining('has not let go of disk data'),
      });
    }
    expect(diskIds()).toEqual(['data']);
    await expect(devices.attachDisk(attachment(), {})).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('has been asked to let go'),
    });

    // QEMU finishes what the guest was asked for when the machine is reset; nobody waits for it any more.
    const removed = nextEvent(host.manager, 'vm.device-removed', 'deaf');
    await host.manager.reset('deaf');
    expect(await removed).toMatchObject({ data: { device: 'data' } });
    // Behind whatever the event has set off.
    expect(await devices.detachDisk({ vm: 'deaf', id: 'data' }, {})).toEqual({ changed: false });
    expect(diskIds()).toEqual([]);
    expect(await devices.attachDisk(attachment(), {})).toEqual({ changed: true });
  });

  test('holds up no other command while it is waited for', async () => {
    const detaching = detach(60_000);
    detaching.catch(() => {});
    await host.manager.pause('deaf');
    await host.manager.resume('deaf');
    await host.manager.stop('deaf', { graceMs: 0 });
    await expect(detaching).rejects.toMatchObject({ code: expect.stringMatching(/WRONG_STATE|INTERRUPTED/) });
    expect(diskIds()).toEqual(['data']);
  });

  test('has to run for a detach, and to be there for an attach', async () => {
    await expect(detach(DETACH_MS)).rejects.toMatchObject({ code: 'WRONG_STATE' });
    await expect(devices.attachDisk(attachment('deaf', 'other'), {})).rejects.toMatchObject({ code: 'WRONG_STATE' });
    await host.manager.start('deaf');
    await host.manager.pause('deaf');
    await expect(detach(DETACH_MS)).rejects.toMatchObject({ code: 'WRONG_STATE', message: expect.stringContaining('paused') });
    await host.manager.resume('deaf');
  });

  test('gets nothing that the policy of the host refuses, and nothing that is not there', async () => {
    const policy = new Policy({ ...OPEN_POLICY, imageRoots: ['/nowhere'] });
    using held = operations((wanted) => policy.checkSpec(wanted));
    await expect(held.attachDisk(attachment('deaf', 'other'), {})).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      details: { setting: 'imageRoots' },
    });
    const absent = parseParams('disk.attach', { vm: 'deaf', id: 'other', disk: { path: join(directory, 'absent') } });
    await expect(devices.attachDisk(absent, {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(diskIds()).toEqual(['data']);
  });

  test('cannot get a vsock on a host that has none', async () => {
    await expect(devices.attachVsock({ vm: 'deaf', vsock: {} }, {})).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('this host has none'),
    });
    expect(host.manager.get('deaf').spec.vsock).toBeUndefined();
  });

  test('on microvm has no ports, and is told so at once', async () => {
    await host.manager.run(spec({ name: 'small', machine: 'microvm' }));
    const expected = { code: 'UNSUPPORTED', message: expect.stringContaining('microvm has no ports') };
    await expect(devices.attachDisk(attachment('small'), {})).rejects.toMatchObject(expected);
    await expect(devices.detachDisk({ vm: 'small', id: 'data' }, {})).rejects.toMatchObject(expected);
    await expect(devices.attachVsock({ vm: 'small', vsock: {} }, {})).rejects.toMatchObject(expected);
    expect(host.manager.capabilities('small')).toMatchObject({ deviceHotplug: false, memoryHotplug: true });
  });
});
