/** What disks stand on, changed under guests that go on and under VMs at rest; nothing that a guest sees changes with it. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { Migrator } from '../../agent/vm/migration/migrator.ts';
import { filesOfQcow2 } from '../../agent/vm/qcow2-files.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { silent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const run = promisify(execFile);
const hasQemuImg = await run('qemu-img', ['--version']).then(
  () => true,
  () => false,
);
const missing = whyNoQemu() ?? (hasQemuImg ? undefined : 'there is no qemu-img');
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const MIB = 1024 ** 2;
const DISK_BYTES = 24 * MIB;
/** So that a copy takes seconds, and something can be done meanwhile. */
const SLOWLY = 8 * MIB;

describe.skipIf(missing !== undefined)('a disk that was made from a snapshot', () => {
  let host: TestHost;
  let snapshots: ReturnType<typeof snapshotsOf>;
  let base: string;

  beforeEach(async () => {
    host = await testHost();
    snapshots = snapshotsOf(host);
    base = join(host.options.stateDir, 'base, of "all".img');
    await writeFile(base, randomBytes(DISK_BYTES));
    const disks = [{ id: 'data', path: base }];
    await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' }, disks }));
    await save('web', 'gold');
    await snapshots.clone(parseParams('vm.clone', { snapshot: 'gold', names: ['one'] }), {});
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const save = (vm: string, name: string) =>
    snapshots.create(parseParams('snapshot.create', { vm, name, mode: 'instant', clonable: true }), {});
  const flatten = (vm: string, maxBandwidthBytes = 0, options = {}) =>
    snapshots.flatten(parseParams('disk.flatten', { vm, id: 'data', maxBandwidthBytes }), options);
  const rebase = (vm: string, snapshot: string) => snapshots.rebase(parseParams('disk.rebase', { vm, id: 'data', snapshot }), {});
  const imageOf = (vm: string) => host.manager.get(vm).spec.disks[0]?.path ?? '';
  const belowOf = async (vm: string) => (await filesOfQcow2(imageOf(vm)))?.backing?.path;
  const frozen = (snapshot: string) => join(host.options.stateDir, 'snapshots', snapshot, 'data.disk');
  /** What its guest reads; the VM is at rest afterwards, since QEMU keeps to itself a part of what an image in use holds. */
  async function expectSame(vm: string, raw = base): Promise<void> {
    await host.manager.stop(vm, { graceMs: 0 });
    await run('qemu-img', ['check', '-q', '-f', 'qcow2', imageOf(vm)]);
    await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', imageOf(vm), raw]);
  }

  test('stands on nothing once it is flattened while its guest runs, and then its snapshot can go', async () => {
    expect(await belowOf('one')).toBe(frozen('gold'));
    await expect(snapshots.remove({ snapshot: 'gold' })).rejects.toMatchObject({ code: 'CONFLICT' });
    const told: number[] = [];
    const onProgress = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }): void => {
      told.push(doneBytes / totalBytes);
    };
    expect(await flatten('one', SLOWLY, { onProgress })).toEqual({ changed: true });
    expect(told.at(-1)).toBe(1);
    expect(told.length).toBeGreaterThan(2);
    expect(host.manager.get('one').state).toBe('running');
    expect(await belowOf('one')).toBeUndefined();
    expect(await flatten('one')).toEqual({ changed: false });
    expect(await snapshots.remove({ snapshot: 'gold' })).toEqual({ removed: true });
    await expectSame('one');
    expect((await host.manager.start('one')).state).toBe('running');
  });

  test('is neither saved nor let go of while it is being copied into, and stands where it stood when that is cancelled', async () => {
    const { manager } = host;
    const controller = new AbortController();
    const begun = Promise.withResolvers<void>();
    const flattening = flatten('one', SLOWLY, { signal: controller.signal, onProgress: () => begun.resolve() });
    flattening.catch(() => {});
    await begun.promise;
    const inUse = { code: 'CONFLICT', message: expect.stringContaining('disk data of VM one is being flattened') };
    await expect(save('one', 'half')).rejects.toMatchObject(inUse);
    await expect(manager.suspend('one', { durability: 'process' })).rejects.toMatchObject(inUse);
    const migrate = parseParams('vm.migrate', { vm: 'one', uri: 'tcp:127.0.0.1:1' });
    await expect(new Migrator(manager).migrate(migrate, {})).rejects.toMatchObject(inUse);
    const devices = new DeviceOperations({ vms: manager, checkPolicy: async () => {}, logger: silent });
    await expect(devices.detachDisk({ vm: 'one', id: 'data' }, {})).rejects.toMatchObject(inUse);

    controller.abort();
    await expect(flattening).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await belowOf('one')).toBe(frozen('gold'));
    await manager.suspend('one', { durability: 'process' });
    await expect(flatten('one')).rejects.toMatchObject({ code: 'WRONG_STATE' });
    await manager.resume('one');
    expect(await flatten('one')).toEqual({ changed: true });
    await expectSame('one');
  });

  test('is copied into while no agent is there, and the next one waits for that', async () => {
    const begun = Promise.withResolvers<void>();
    const flattening = flatten('one', SLOWLY, { onProgress: () => begun.resolve() });
    flattening.catch(() => {});
    await begun.promise;
    await host.restart();
    await expect(flattening).rejects.toMatchObject({ code: 'INTERRUPTED' });
    snapshots = snapshotsOf(host);
    const jobs = await host.manager.qmp('one', { execute: 'query-jobs' });
    expect(jobs, 'QEMU goes on').toMatchObject([{ id: 'pull-data', status: 'running' }]);
    expect(await flatten('one')).toEqual({ changed: true });
    expect(await host.manager.qmp('one', { execute: 'query-jobs' })).toEqual([]);
    await expectSame('one');
  });

  test('is whole, and stands where it stood, when its QEMU is killed meanwhile', async () => {
    const begun = Promise.withResolvers<void>();
    const flattening = flatten('one', SLOWLY, { onProgress: () => begun.resolve() });
    flattening.catch(() => {});
    await begun.promise;
    process.kill(host.manager.get('one').pid ?? 0, 'SIGKILL');
    await expect(flattening).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await expect.poll(() => host.manager.get('one').state, { timeout: 10_000 }).toBe('crashed');
    expect(await belowOf('one')).toBe(frozen('gold'));
    await run('qemu-img', ['check', '-q', '-f', 'qcow2', '-r', 'leaks', imageOf('one')]);
    await expectSame('one');
    expect(await flatten('one')).toEqual({ changed: true });
    await expectSame('one');
  });

  test('is put on another snapshot while the VM is at rest, and on one below it also while it runs', async () => {
    const { manager } = host;
    await save('one', 'later');
    expect(await belowOf('one')).toBe(frozen('gold'));
    await expect(rebase('one', 'later'), 'QEMU cannot do that').rejects.toMatchObject({ code: 'WRONG_STATE' });
    await manager.stop('one', { graceMs: 0 });
    await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0xab 1M 1M', imageOf('one')]);
    const expected = join(host.options.stateDir, 'expected');
    await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', imageOf('one'), expected]);
    expect(await rebase('one', 'later')).toEqual({ changed: true });
    expect(await rebase('one', 'later')).toEqual({ changed: false });
    expect(await belowOf('one')).toBe(frozen('later'));
    await expectSame('one', expected);
    await expect(snapshots.remove({ snapshot: 'later' })).rejects.toMatchObject({ code: 'CONFLICT' });

    await manager.start('one');
    expect(await rebase('one', 'gold')).toEqual({ changed: true });
    expect(await belowOf('one')).toBe(frozen('gold'));
    expect(await snapshots.remove({ snapshot: 'later' })).toEqual({ removed: true });
    await expectSame('one', expected);

    expect(await flatten('one')).toEqual({ changed: true });
    expect(await belowOf('one')).toBeUndefined();
    await expectSame('one', expected);
    expect(await snapshots.remove({ snapshot: 'gold' })).toEqual({ removed: true });
  });

  test('keeps what it stands on when that cannot be changed, and says why', async () => {
    const { manager } = host;
    expect(await flatten('web'), 'a raw image stands on nothing').toEqual({ changed: false });
    await expect(flatten('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(rebase('one', 'none')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const other = parseParams('disk.flatten', { vm: 'one', id: 'other' });
    await expect(snapshots.flatten(other, {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const image = imageOf('one');
    await manager.stop('one', { graceMs: 0 });
    const holder = execFile('qemu-io', ['-f', 'qcow2', '-c', 'sleep 20000', image]);
    try {
      await expect
        .poll(
          () =>
            run('qemu-img', ['check', '-q', image]).then(
              () => 'free',
              () => 'locked',
            ),
          { timeout: 10_000 },
        )
        .toBe('locked');
      await expect(flatten('one')).rejects.toMatchObject({ code: 'CONFLICT' });
    } finally {
      holder.kill('SIGKILL');
    }
    expect(await belowOf('one')).toBe(frozen('gold'));
  });
});
