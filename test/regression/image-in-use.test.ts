/**
 * Symptom: to attach an image that another VM had open failed with `device_add … GenericError: Failed to get "write" lock` and the path of a
 * socket: neither the disk nor what to do was named.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { silent, spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)(
  'an image that another VM has open is refused with what to do, and leaves nothing behind',
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-disk-'));
    const path = join(directory, 'data.raw');
    await writeFile(path, Buffer.alloc(1024 ** 2));
    await using scope = new AsyncDisposableStack();
    scope.defer(() => rm(directory, { recursive: true, force: true }));
    const { manager } = scope.use(await testHost());
    const devices = scope.use(new DeviceOperations({ vms: manager, logger: silent, checkPolicy: async () => {} }));
    await manager.run(spec({ name: 'first', disks: [{ path }] }));
    await manager.run(spec({ name: 'second' }));

    const attached = devices.attachDisk(parseParams('disk.attach', { vm: 'second', id: 'data', disk: { path } }), {});
    await expect(attached).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(/^disk data could not be attached to VM second: .* has the image open: let it go there/),
    });
    expect(manager.get('second').spec.disks).toEqual([]);
    await manager.delete('first', { force: true });
    await devices.attachDisk(parseParams('disk.attach', { vm: 'second', id: 'data', disk: { path } }), {});
  },
);
