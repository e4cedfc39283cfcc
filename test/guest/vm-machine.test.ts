/** The machine that a spec describes, as a real QEMU makes it and as a real guest sees it. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { text } from 'node:stream/consumers';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import type { VmManager } from '../../agent/vm/manager.ts';
import { findOnPath } from '../../cli/image/cache.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import { bootSector } from '../support/boot-sector.ts';
import { nextEvent, silent, spec, testHost, whyNoQemu } from '../support/vm.ts';
import { missingForVsockGuest, VHOST_DEVICE_VSOCK } from '../support/vsock-guest.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
const missingGuest = missing ?? missingForVsockGuest();

const RUN_PORT = 1024;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-machine-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function image(name: string, bytes = 1024 * 1024): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, '');
  await truncate(path, bytes);
  return path;
}

/** Where QEMU has a device: its bus, which is named after the port, and its address there, `slot.function`. */
async function placeOf(manager: VmManager, vm: string, id: string): Promise<string> {
  const get = (property: string) =>
    manager.qmp(vm, { execute: 'qom-get', arguments: { path: `/machine/peripheral/${id}`, property } });
  const [bus, addr] = [v.parse(v.string(), await get('parent_bus')), v.parse(v.number(), await get('addr'))];
  return `${basename(bus)} ${addr >> 3}.${addr & 7}`;
}

describe.skipIf(missing !== undefined)('a machine', () => {
  test('with all that a spec can hold starts, and each device is where its slot says', async () => {
    await using host = await testHost();
    const disks = await Promise.all(Array.from({ length: 26 }, (_, index) => image(`disk${index}`)));
    const vm = spec({
      name: 'web',
      cpus: { count: 4, topology: { sockets: 2, cores: 2 } },
      memory: { bytes: '64MiB', maxBytes: '1GiB', backing: 'file' },
      disks: disks.map((path) => ({ path })),
      networks: Array.from({ length: 16 }, () => ({ type: 'user' as const })),
      guestAgent: {},
      devices: { hotplugSlots: 32 },
    });
    await host.manager.run(vm);
    const inSlots = [...vm.networks, ...vm.disks.filter((disk) => disk.media === 'disk')];
    const expected = {
      ...Object.fromEntries(inSlots.map(({ id, slot }) => [id, `slot${slot} 0.0`])),
      rng0: 'pcie.0 1.0',
      balloon0: 'pcie.0 2.0',
      vmem0: 'pcie.0 3.0',
      pvpanic0: 'pcie.0 4.0',
      serial0: 'pcie.0 5.0',
      slot0: 'pcie.0 8.0',
      slot73: 'pcie.0 17.1',
    };
    const places = await Promise.all(Object.keys(expected).map(async (id) => [id, await placeOf(host.manager, 'web', id)]));
    expect(Object.fromEntries(places)).toEqual(expected);
  });

  test('of type microvm has room for 23 devices, and no more is promised', async () => {
    await using host = await testHost();
    const paths = await Promise.all(Array.from({ length: 24 }, (_, index) => image(`disk${index}`)));
    const disks = paths.map((path) => ({ path }));
    await expect(host.manager.create(spec({ name: 'more', machine: 'microvm', disks }))).rejects.toMatchObject({
      code: 'INVALID_PARAMS',
    });
    expect(
      await host.manager.run(spec({ name: 'web', machine: 'microvm', disks: disks.slice(1), guestAgent: {} })),
    ).toMatchObject({
      state: 'running',
    });
  });

  test('boots from its disks in the order of the spec, whatever their slots', async () => {
    await using host = await testHost();
    const [first, second] = await Promise.all([image('first'), image('second')]);
    await writeFile(first, bootSector({ says: 'booted 1\n' }), { flag: 'r+' });
    await writeFile(second, bootSector({ says: 'booted 2\n' }), { flag: 'r+' });
    const disks = [
      { path: second, slot: 3 },
      { path: first, slot: 0 },
    ];
    for (const [name, order, expected] of [
      ['one', disks, '2'],
      ['two', disks.toReversed(), '1'],
    ] as const) {
      await host.manager.run(spec({ name, disks: [...order] }));
      const consoleLog = join(host.options.stateDir, 'vms', name, 'logs/console.log');
      await expect.poll(() => readFile(consoleLog, 'utf8'), { timeout: 60_000 }).toContain(`booted ${expected}`);
      await host.manager.delete(name, { force: true });
    }
  });

  test.skipIf(findOnPath('qemu-img') === undefined)(
    'opens a qcow2 image with all that lie below it, and keeps those read-only',
    async () => {
      await using host = await testHost();
      const [base, middle, top] = ['base.raw', 'middle.qcow2', 'top.qcow2'].map((name) => join(directory, name));
      const qemuImg = (...args: string[]) =>
        execFileSync(
          'qemu-img',
          args.filter((arg) => arg !== ''),
          { stdio: 'pipe' },
        );
      qemuImg('create', '-f', 'raw', base ?? '', '1M');
      qemuImg('create', '-f', 'qcow2', '-b', base ?? '', '-F', 'raw', middle ?? '');
      qemuImg('create', '-f', 'qcow2', '-b', middle ?? '', '-F', 'qcow2', top ?? '');
      await host.manager.run(spec({ name: 'web', disks: [{ path: top ?? '', format: 'qcow2' }] }));
      const Nodes = v.array(v.looseObject({ drv: v.string(), file: v.string(), ro: v.boolean() }));
      const nodes = v.parse(
        Nodes,
        await host.manager.qmp('web', { execute: 'query-named-block-nodes', arguments: { flat: true } }),
      );
      const files = new Map(nodes.filter(({ drv }) => drv === 'file').map(({ file, ro }) => [file, ro]));
      expect(files).toEqual(new Map([base, middle, top].map((path) => [path, path !== top])));
    },
  );

  test('holds a disk to its limits', async () => {
    await using host = await testHost();
    const path = await image('disk');
    const throttle = {
      bytesPerSecond: '1MiB',
      burstBytesPerSecond: '4MiB',
      operationsPerSecond: 100,
      burstOperationsPerSecond: 50,
    };
    await host.manager.run(spec({ name: 'web', disks: [{ path, throttle }] }));
    const query = { execute: 'qom-get', arguments: { path: '/objects/disk0-limits', property: 'limits' } };
    expect(await host.manager.qmp('web', query)).toMatchObject({
      'bps-total': 1024 ** 2,
      'bps-total-max': 4 * 1024 ** 2,
      'iops-total': 100,
      'iops-total-max': 0,
    });
  });

  test('does not get a disk that another one writes to, and is told which', async () => {
    await using host = await testHost();
    const path = await image('disk');
    await host.manager.run(spec({ name: 'web', disks: [{ path }] }));
    await expect(host.manager.run(spec({ name: 'db', disks: [{ path }] }))).rejects.toMatchObject({
      code: 'PROCESS_FAILED',
      message: expect.stringMatching(
        /while it started: .*Failed to get "write" lock; Is another process using the image \[.*\/disk\]\?$/,
      ),
    });
    expect(host.manager.list().map(({ name }) => name)).toEqual(['web']);
  });

  test('larger than its host is refused before anything is made', async () => {
    await using host = await testHost();
    const vast = spec({ name: 'web', memory: { bytes: '1024TiB' } });
    await expect(host.manager.run(vast)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', details: { field: 'memory.bytes' } });
    expect(host.manager.list()).toEqual([]);
  });
});

if (missingGuest !== undefined) console.warn(`skipped: ${missingGuest}`);

describe.skipIf(missingGuest !== undefined)('a guest', () => {
  test('finds its disks and networks where they were when others are gone', async () => {
    const transport = vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent });
    await using host = await testHost({ vsock: { available: true, transport } });
    const { manager } = host;
    const { kernel, initrd, args, readyPort } = demoImage() ?? { readyPort: 0 };
    const disks = await Promise.all(
      ['a', 'b', 'c'].map(async (name) => ({ id: name, path: await image(name), serial: `disk-${name}` })),
    );
    const vm = spec({
      name: 'web',
      memory: { bytes: '256MiB' },
      boot: { kernel, initrd, args },
      vsock: { readyPort },
      disks,
      networks: [{ type: 'user' }, { type: 'user' }],
    });
    const run = async (): Promise<string[]> => {
      const ready = nextEvent(manager, 'vm.ready', 'web');
      await manager.start('web');
      await ready;
      const { stream } = await manager.openStream({ vm: 'web', port: RUN_PORT, connectTimeoutMs: 30_000 });
      stream.write(
        'for d in /sys/block/vd*/serial; do echo "$(readlink -f ${d%/serial}/device | cut -d/ -f4-6) $(cat $d)"; done\n',
      );
      return (await text(stream)).split('\n').filter((line) => line.includes('disk-'));
    };
    await manager.create(vm);
    const before = await run();
    expect(before.map((line) => line.split(' ')[1])).toEqual(['disk-a', 'disk-b', 'disk-c']);
    await manager.delete('web', { force: true });

    await manager.create({ ...vm, disks: vm.disks.slice(1), networks: vm.networks.slice(1) });
    expect(await run()).toEqual(before.slice(1));
  });
});
