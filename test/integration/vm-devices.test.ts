/**
 * Attach, detach and agree against a scripted QEMU: the faults that a real one does not make on request. The script keeps what it was
 * given, so that what is left over shows.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { runCommand } from '../../agent/qmp/commands.ts';
import type { Vms } from '../../agent/vm/api.ts';
import { Deadline } from '../../agent/vm/deadline.ts';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { EventLog } from '../../agent/vm/events.ts';
import type { LiveVm } from '../../agent/vm/live-vm.ts';
import { MemoryGauge } from '../../agent/vm/memory/memory-gauge.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { type FakeCommand, type FakePeer, startFakeQmp } from '../support/fake-qmp.ts';
import { fakeVmInfo } from '../support/fake-vms.ts';
import { silent, spec } from '../support/vm.ts';
import { shortDirectory } from '../support/vsock-guest.ts';

/** Answers a command in another way than a sound QEMU. */
type Fault = (peer: FakePeer, command: FakeCommand) => void;
const refuse: Fault = (peer, command) => peer.fail(command, 'GenericError', 'no');
const saysNothing: Fault = () => {};

/** `commandMs` is what a command has for its answer. */
async function scripted(input: Partial<VmSpecInput> = {}, commandMs = 10_000) {
  const parts = new Set<string>();
  const devices = new Set<string>();
  const heard: string[] = [];
  const faults = new Map<string, Fault>();
  const answer = (command: string, args: Record<string, unknown>): unknown => {
    const name = String(args['node-name'] ?? args['id']);
    switch (command) {
      case 'qom-list':
        if (args['path'] === '/objects') return [...parts].map((part) => ({ name: part, type: 'child<throttle-group>' }));
        return [...devices, 'slot0', 'slot1'].map((device) => ({
          name: device,
          type: device.startsWith('slot') ? 'child<pcie-root-port>' : 'child<virtio-blk-pci>',
        }));
      case 'query-block':
        return [
          { qdev: 'cd', locked: true, tray_open: false, inserted: { 'node-name': 'cd-format', image: { 'virtual-size': 1 } } },
        ];
      case 'query-named-block-nodes':
        return [...parts].map((part) => ({ 'node-name': part }));
      case 'object-add':
      case 'blockdev-add':
      case 'netdev_add':
        parts.add(name);
        return {};
      case 'object-del':
      case 'blockdev-del':
      case 'netdev_del':
        parts.delete(name);
        return {};
      case 'device_add':
        devices.add(name);
        return {};
      case 'query-jobs':
        return [];
      default:
        return {};
    }
  };

  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await shortDirectory());
  await writeFile(join(directory.path, 'data.raw'), '');
  const fake = undo.use(
    await startFakeQmp(async (peer) => {
      await peer.negotiate();
      for (;;) {
        const command = await peer.receive();
        const name = command.execute ?? '';
        const args = Object(command.arguments ?? {});
        if (!name.startsWith('q')) heard.push(`${name} ${args['node-name'] ?? args.id}`);
        const fault = faults.get(name);
        if (fault === undefined) peer.reply(command, answer(name, args));
        else fault(peer, command);
      }
    }),
  );
  const qmp = undo.use(await QmpClient.connect({ path: fake.path }));
  let current = spec({ ...input, name: 'web' });
  const live: LiveVm = {
    name: 'web',
    generation: 1,
    state: 'running',
    get spec() {
      return current;
    },
    // SAFETY: of the process only the pid is looked at here; this one's own will do.
    process: { pid: process.pid, argv: [] } as unknown as LiveVm['process'],
    // SAFETY: nothing is put into the VM's directories.
    paths: { dir: directory.path } as LiveVm['paths'],
    device: undefined,
    vsock: { prepare: () => Promise.reject(new Error('none')), use: async () => {}, quiet: async () => {} },
    memory: new MemoryGauge(),
    signal: new AbortController().signal,
    execute: (command, args, { remainingMs }) => runCommand(qmp, command, args, { timeoutMs: Math.min(remainingMs, commandMs) }),
    dial: () => Promise.reject(new Error('none')),
    listen: (options) => qmp.listen(options),
    async changeSpec(change) {
      current = change(current);
    },
    tell() {},
  };
  const vms: Pick<Vms, 'operate' | 'get' | 'list' | 'events'> = {
    events: new EventLog(),
    get: (name) => ({ ...fakeVmInfo(name), spec: current }),
    list: () => [],
    async operate(_name, { doing }, options, run) {
      using deadline = new Deadline(doing, { timeoutMs: 10_000, ...options });
      return await run(live, deadline);
    },
  };
  const owned = undo.move();
  const path = join(directory.path, 'data.raw');
  return {
    operations: new DeviceOperations({ vms, logger: silent, checkPolicy: async () => {} }),
    disk: parseParams('disk.attach', { vm: 'web', id: 'data', disk: { path } }),
    faults,
    devices,
    /** Objects, block nodes and netdevs. */
    parts,
    heard,
    ids: () => [...current.disks, ...current.networks].map(({ id }) => id),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** QEMU takes the unplug, and then tells what the guest makes of it. */
const unplugs =
  (event: string, devices?: Set<string>): Fault =>
  (peer, command) => {
    const { id } = Object(command.arguments);
    devices?.delete(id);
    peer.reply(command);
    // A part of it first, which has no name.
    peer.event('DEVICE_DELETED', { path: `/machine/peripheral/${id}/virtio-backend` });
    peer.event(event, { device: id, path: `/machine/peripheral/${id}` });
  };

test('a disk is made from the file up, and taken apart from the top down', async () => {
  await using qemu = await scripted();
  expect(await qemu.operations.attachDisk(qemu.disk, {})).toEqual({ changed: true });
  qemu.faults.set('device_del', unplugs('DEVICE_DELETED', qemu.devices));
  expect(await qemu.operations.detachDisk({ vm: 'web', id: 'data' }, {})).toEqual({ changed: true });
  expect(qemu.heard).toEqual([
    'object-add data-limits',
    'blockdev-add data-file',
    'blockdev-add data-format',
    'blockdev-add data-throttle',
    'device_add data',
    'device_del data',
    'blockdev-del data-throttle',
    'blockdev-del data-format',
    'blockdev-del data-file',
    'object-del data-limits',
  ]);
  expect(qemu.ids()).toEqual([]);
});

test.each(['object-add', 'blockdev-add', 'device_add'])('a disk whose %s is refused leaves nothing behind', async (command) => {
  await using qemu = await scripted();
  qemu.faults.set(command, refuse);
  await expect(qemu.operations.attachDisk(qemu.disk, {})).rejects.toMatchObject({
    code: 'QMP_FAILED',
    message: expect.stringContaining('no'),
  });
  expect([...qemu.parts, ...qemu.ids()]).toEqual([]);
});

test('a network whose device is refused leaves nothing behind', async () => {
  await using qemu = await scripted();
  qemu.faults.set('device_add', refuse);
  const network = parseParams('network.attach', { vm: 'web', id: 'lan', network: { type: 'user' } });
  await expect(qemu.operations.attachNetwork(network, {})).rejects.toMatchObject({ code: 'QMP_FAILED' });
  expect([...qemu.parts, ...qemu.ids()]).toEqual([]);
});

test('what could not be taken back is told, and taken away by the next operation', async () => {
  await using qemu = await scripted();
  qemu.faults.set('device_add', refuse).set('blockdev-del', refuse);
  await expect(qemu.operations.attachDisk(qemu.disk, {})).rejects.toMatchObject({
    code: 'QMP_FAILED',
    message: expect.stringContaining('could not be taken back'),
  });
  expect([...qemu.parts]).toHaveLength(4);
  qemu.faults.clear();
  expect(await qemu.operations.attachDisk(qemu.disk, {})).toEqual({ changed: true });
  expect([...qemu.devices]).toEqual(['data']);
  expect(qemu.ids()).toEqual(['data']);
});

test('a device whose addition was never answered is found where QEMU made it after all', async () => {
  await using qemu = await scripted({}, 1_000);
  qemu.faults.set('device_add', (_peer, command) => void qemu.devices.add(Object(command.arguments).id));
  qemu.faults.set('blockdev-del', saysNothing);
  await expect(qemu.operations.attachDisk(qemu.disk, {})).rejects.toMatchObject({ code: 'TIMEOUT' });
  qemu.faults.clear();
  expect(await qemu.operations.attachDisk(qemu.disk, {})).toEqual({ changed: false });
  expect(qemu.ids()).toEqual(['data']);
});

test('a guest that refuses to let go keeps the device, and may be asked again', async () => {
  await using qemu = await scripted();
  await qemu.operations.attachDisk(qemu.disk, {});
  qemu.faults.set('device_del', unplugs('DEVICE_UNPLUG_GUEST_ERROR'));
  await expect(qemu.operations.detachDisk({ vm: 'web', id: 'data' }, {})).rejects.toMatchObject({
    code: 'GUEST_UNRESPONSIVE',
    message: expect.stringContaining('refuses to let go of disk data'),
  });
  expect(await qemu.operations.attachDisk(qemu.disk, {})).toEqual({ changed: false });
  qemu.faults.set('device_del', unplugs('DEVICE_DELETED', qemu.devices));
  expect(await qemu.operations.detachDisk({ vm: 'web', id: 'data' }, {})).toEqual({ changed: true });
  expect([...qemu.parts, ...qemu.ids()]).toEqual([]);
});

test('a device that the guest has let go of by itself is taken from the record with what stood behind it', async () => {
  await using qemu = await scripted();
  await qemu.operations.attachDisk(qemu.disk, {});
  qemu.devices.clear();
  expect(await qemu.operations.find('web', 'data')).toBeUndefined();
  expect([...qemu.parts, ...qemu.ids()]).toEqual([]);
});

test('a call that is cancelled half-way is carried to its end', async () => {
  await using qemu = await scripted();
  const caller = new AbortController();
  qemu.faults.set('blockdev-add', (peer, command) => {
    caller.abort();
    qemu.parts.add(Object(command.arguments)['node-name']);
    peer.reply(command);
  });
  expect(await qemu.operations.attachDisk(qemu.disk, { signal: caller.signal })).toEqual({ changed: true });
  expect(qemu.ids()).toEqual(['data']);
});

test('a disk whose drive is let go of only after its device was told as gone is detached all the same', async () => {
  await using qemu = await scripted();
  await qemu.operations.attachDisk(qemu.disk, {});
  qemu.faults.set('device_del', unplugs('DEVICE_DELETED', qemu.devices));
  let refusals = 2;
  const inUse: Fault = (peer, command) => {
    refusals -= 1;
    if (refusals === 0) qemu.faults.delete('blockdev-del');
    peer.fail(command, 'GenericError', 'Node data-throttle is in use');
  };
  qemu.faults.set('blockdev-del', inUse);
  expect(await qemu.operations.detachDisk({ vm: 'web', id: 'data' }, {})).toEqual({ changed: true });
  expect(refusals).toBe(0);
  expect([...qemu.parts]).toEqual([]);
});

test('a device that is asked to leave while another call detaches it is asked for once more, and gone for both', async () => {
  await using qemu = await scripted();
  await qemu.operations.attachDisk(qemu.disk, {});
  let asked = 0;
  qemu.faults.set('device_del', (peer, command) => {
    if (++asked < 2) peer.reply(command);
    else unplugs('DEVICE_DELETED', qemu.devices)(peer, command);
  });
  const both = await Promise.all([1, 2].map(() => qemu.operations.detachDisk({ vm: 'web', id: 'data' }, {})));
  expect(both).toEqual([{ changed: true }, { changed: true }]);
  expect([...qemu.parts, ...qemu.ids()]).toEqual([]);
});

const DRIVE: Partial<VmSpecInput> = { disks: [{ media: 'cdrom', id: 'cd', path: '/old.iso' }] };

test('a medium whose drive the guest keeps locked stays in, and nothing is left of the other', async () => {
  await using qemu = await scripted(DRIVE);
  qemu.parts.add('cd-file').add('cd-format');
  const { path } = qemu.disk.disk;
  const change = parseParams('medium.change', { vm: 'web', id: 'cd', path });
  await expect(qemu.operations.changeMedium(change, { timeoutMs: 1_000 })).rejects.toMatchObject({
    code: 'GUEST_UNRESPONSIVE',
    message: expect.stringContaining('has locked the tray of cd'),
  });
  expect([...qemu.parts]).toEqual(['cd-file', 'cd-format']);
  expect(qemu.heard).not.toContain('blockdev-remove-medium cd');
});

test('a medium that the drive does not take makes room for the old one again', async () => {
  await using qemu = await scripted(DRIVE);
  qemu.parts.add('cd-file').add('cd-format');
  qemu.faults.set('blockdev-open-tray', (peer, command) => {
    peer.event('DEVICE_TRAY_MOVED', { device: '', id: 'cd', 'tray-open': true });
    peer.reply(command);
  });
  qemu.faults.set('blockdev-insert-medium', (peer, command) => {
    if (Object(command.arguments)['node-name'] === 'cd-format') peer.reply(command);
    else refuse(peer, command);
  });
  const { path } = qemu.disk.disk;
  const change = parseParams('medium.change', { vm: 'web', id: 'cd', path });
  await expect(qemu.operations.changeMedium(change, {})).rejects.toMatchObject({ code: 'QMP_FAILED' });
  expect(qemu.heard.slice(-6)).toEqual([
    'blockdev-remove-medium cd',
    'blockdev-insert-medium cd-format2',
    'blockdev-insert-medium cd-format',
    'blockdev-close-tray cd',
    'blockdev-del cd-format2',
    'blockdev-del cd-file2',
  ]);
  expect(await qemu.operations.find('web', 'cd')).toMatchObject({ path: '/old.iso' });
});
