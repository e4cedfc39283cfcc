/** Devices that come and go while a real guest runs: what the guest sees of it, and what a later start and a later agent know of it. */
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { nextEvent, silent, spec, type TestHost } from '../support/vm.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const MIB = 1024 ** 2;

describe.skipIf(missing !== undefined)('a running Linux guest', () => {
  let host: TestHost;
  let devices: DeviceOperations;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-disk-'));
    for (const [name, mark] of Object.entries({ 'data.raw': 'D', 'one.iso': '1', 'two.iso': '2' }))
      await writeFile(join(directory, name), Buffer.alloc(MIB, mark));
    host = await linuxHost();
    devices = operations();
    await runLinux(host.manager, { name: 'web', disks: [{ media: 'cdrom', id: 'cd' }] });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  function operations(): DeviceOperations {
    return new DeviceOperations({ vms: host.manager, logger: silent, checkPolicy: async () => {} });
  }
  const guest = (command: string) => inGuest(host.manager, 'web', command);
  const path = (name: string) => join(directory, name);
  const attach = (id: string, disk: object) => devices.attachDisk(parseParams('disk.attach', { vm: 'web', id, disk }), {});
  const diskIds = () => host.manager.get('web').spec.disks.map(({ id }) => id);
  /** The kernel finds a new device by itself, and some time later. */
  const waitFor = (file: string) => `n=0; while [ ! -e ${file} ] && [ $n -lt 300 ]; do usleep 100000; n=$((n+1)); done;`;

  test('gets a disk, and gives it back', async () => {
    expect(await attach('data', { path: path('data.raw'), serial: 'DATA' })).toEqual({ changed: true });
    expect(diskIds()).toEqual(['cd', 'data']);
    expect(await guest(`${waitFor('/dev/vda')} cat /sys/block/vda/serial; head -c 1 /dev/vda`)).toBe('DATAD');
    await guest('echo written | dd of=/dev/vda conv=fsync,notrunc 2>/dev/null');
    expect((await readFile(path('data.raw'), 'utf8')).slice(0, 8)).toBe('written\n');

    expect(await devices.detachDisk({ vm: 'web', id: 'data' }, {})).toEqual({ changed: true });
    expect(diskIds()).toEqual(['cd']);
    expect(await guest('ls /sys/block | grep -c vda')).toBe('0');
  });

  test('that has a device of that id already keeps it', async () => {
    const disk = { path: path('data.raw') };
    expect(await attach('again', disk)).toEqual({ changed: true });
    expect(await attach('again', disk)).toEqual({ changed: false });
    await expect(attach('again', { ...disk, readOnly: true })).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(attach('cd', disk)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('another device cd'),
    });
    await expect(attach('balloon0', disk)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await devices.detachDisk({ vm: 'web', id: 'again' }, {})).toEqual({ changed: true });
    expect(await devices.detachDisk({ vm: 'web', id: 'again' }, {})).toEqual({ changed: false });
  });

  test('is left as it was by a disk that QEMU refuses', async () => {
    await attach('first', { path: path('data.raw') });
    // QEMU holds a lock on the image of the first.
    await expect(attach('second', { path: path('data.raw') })).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(diskIds()).toEqual(['cd', 'first']);
    const nodes = await host.manager.qmp('web', { execute: 'query-named-block-nodes', arguments: { flat: true } });
    expect(JSON.stringify(nodes)).not.toContain('second');
    const objects = await host.manager.qmp('web', { execute: 'qom-list', arguments: { path: '/objects' } });
    expect(JSON.stringify(objects)).not.toContain('second');
    await devices.detachDisk({ vm: 'web', id: 'first' }, {});
  });

  test('sees a disk grow, and is held to its limits', async () => {
    await attach('grow', { path: path('data.raw') });
    await guest(waitFor('/dev/vda'));
    expect(await devices.resizeDisk({ vm: 'web', id: 'grow', bytes: 2 * MIB }, {})).toEqual({ changed: true });
    expect(await devices.resizeDisk({ vm: 'web', id: 'grow', bytes: 2 * MIB }, {})).toEqual({ changed: false });
    expect(
      await guest(
        'n=0; while [ $(cat /sys/block/vda/size) != 4096 ] && [ $n -lt 100 ]; do usleep 100000; n=$((n+1)); done; cat /sys/block/vda/size',
      ),
    ).toBe('4096');
    await expect(devices.resizeDisk({ vm: 'web', id: 'grow', bytes: MIB }, {})).rejects.toMatchObject({ code: 'INVALID_PARAMS' });

    const throttle = {
      bytesPerSecond: 5 * MIB,
      burstBytesPerSecond: 6 * MIB,
      operationsPerSecond: 100,
      burstOperationsPerSecond: 0,
    };
    expect(await devices.throttleDisk({ vm: 'web', id: 'grow', throttle }, {})).toEqual({ changed: true });
    expect(await limitsOf('grow')).toMatchObject({ 'bps-total': 5 * MIB, 'bps-total-max': 6 * MIB, 'iops-total': 100 });
    expect(host.manager.get('web').spec.disks).toContainEqual(expect.objectContaining({ id: 'grow', throttle }));
    const none = parseParams('disk.throttle', { vm: 'web', id: 'grow' });
    expect(await devices.throttleDisk(none, {})).toEqual({ changed: true });
    expect(await limitsOf('grow')).toMatchObject({ 'bps-total': 0, 'bps-total-max': 0, 'iops-total': 0 });
    await devices.detachDisk({ vm: 'web', id: 'grow' }, {});
    await truncate(path('data.raw'), MIB);
  });

  const limitsOf = (id: string) =>
    host.manager.qmp('web', { execute: 'qom-get', arguments: { path: `/objects/${id}-limits`, property: 'limits' } });

  test('that throws a device out by itself is believed', async () => {
    devices.watch();
    await attach('data', { path: path('data.raw') });
    const removed = nextEvent(host.manager, 'vm.device-removed', 'web');
    await guest(
      `${waitFor('/dev/vda')} slot=$(readlink -f /sys/block/vda | sed 's|.*/\\(0000:..:..\\)[.].*|\\1|'); for s in /sys/bus/pci/slots/*; do [ "$(cat $s/address)" = "$slot" ] && echo 0 >$s/power; done; true`,
    );
    expect(await removed).toMatchObject({ data: { device: 'data' } });
    expect(await devices.find('web', 'data')).toBeUndefined();
    const nodes = await host.manager.qmp('web', { execute: 'query-named-block-nodes', arguments: { flat: true } });
    expect(JSON.stringify(nodes)).not.toContain('data-');
  });

  test('gets another medium, and none', async () => {
    const change = (name: string | undefined) =>
      devices.changeMedium(
        parseParams('medium.change', { vm: 'web', id: 'cd', ...(name !== undefined && { path: path(name) }) }),
        {},
      );
    const medium = async () => {
      const drives = await host.manager.qmp('web', { execute: 'query-block' });
      return /"file": ?"([^"]*)"/.exec(JSON.stringify(drives))?.[1];
    };
    expect(await change('one.iso')).toEqual({ changed: true });
    expect(await medium()).toBe(path('one.iso'));
    expect(await change('two.iso')).toEqual({ changed: true });
    expect(await medium()).toBe(path('two.iso'));
    expect(await change('two.iso')).toEqual({ changed: false });
    await expect(change('three.iso')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await medium()).toBe(path('two.iso'));
    expect(await change(undefined)).toEqual({ changed: true });
    expect(await medium()).toBeUndefined();
    const nodes = await host.manager.qmp('web', { execute: 'query-named-block-nodes', arguments: { flat: true } });
    expect(JSON.stringify(nodes)).not.toContain('cd-');
  });

  test('gets a network, and gives it back', async () => {
    const params = parseParams('network.attach', { vm: 'web', id: 'lan', network: { type: 'user', mac: '52:54:00:12:34:56' } });
    expect(await devices.attachNetwork(params, {})).toEqual({ changed: true });
    expect(await guest(`${waitFor('/sys/class/net/eth0')} cat /sys/class/net/eth0/address`)).toBe('52:54:00:12:34:56');
    expect(await devices.detachNetwork({ vm: 'web', id: 'lan' }, {})).toEqual({ changed: true });
    expect(await guest('ls /sys/class/net')).not.toContain('eth0');
    expect(await devices.attachNetwork(params, {})).toEqual({ changed: true });
    await devices.detachNetwork({ vm: 'web', id: 'lan' }, {});
  });

  test('loses its vsock with the streams through it, and gets another', async () => {
    const { stream } = await host.manager.openStream({ vm: 'web', port: 7, connectTimeoutMs: 30_000 });
    stream.write('hi');
    await once(stream, 'data');
    const failed = once(stream, 'error');
    expect(await devices.detachVsock({ vm: 'web' }, {})).toEqual({ changed: true });
    expect(await failed).toMatchObject([{ code: 'STREAM_RESET', message: expect.stringContaining('vsock') }]);
    expect(host.manager.get('web').vsock).toBeUndefined();
    expect(host.manager.get('web').spec.vsock).toBeUndefined();
    await expect(host.manager.openStream({ vm: 'web', port: 7, connectTimeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    expect(await devices.detachVsock({ vm: 'web' }, {})).toEqual({ changed: false });

    const vsock = { readyPort: 1023 };
    expect(await devices.attachVsock({ vm: 'web', vsock }, {})).toEqual({ changed: true });
    expect(await devices.attachVsock({ vm: 'web', vsock }, {})).toEqual({ changed: false });
    await expect(devices.attachVsock({ vm: 'web', vsock: {} }, {})).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await guest('echo back')).toBe('back');
    await host.restart();
    devices = operations();
    expect(await guest('echo and again')).toBe('and again');
  });

  test('that was started without a vsock cannot be given one, since its memory is not shared', async () => {
    await host.manager.run(spec({ name: 'alone' }));
    await expect(devices.attachVsock({ vm: 'alone', vsock: {} }, {})).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('its memory is not shared'),
    });
    expect(host.manager.get('alone').spec.vsock).toBeUndefined();
    // The daemon that was made for it is gone with its sockets.
    expect(await readdir(join(host.options.runDir, 'alone'))).not.toContain('vh');
    await host.manager.delete('alone', { force: true });
  });

  test('takes as many devices as it has free ports, and says which are taken', async () => {
    const ids = ['a', 'b', 'c', 'd'];
    for (const id of [...ids, 'e']) await writeFile(path(`${id}.raw`), Buffer.alloc(MIB));
    for (const id of ids) await attach(id, { path: path(`${id}.raw`) });
    await expect(attach('e', { path: path('e.raw') })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      details: { taken: ['a', 'b', 'c', 'd', 'vsock'] },
    });
    await devices.detachDisk({ vm: 'web', id: 'b' }, {});
    expect(await attach('e', { path: path('e.raw') })).toEqual({ changed: true });
    for (const id of ['a', 'c', 'd', 'e']) await devices.detachDisk({ vm: 'web', id }, {});
  });

  test('keeps what it has over a new agent, and over a new start', async () => {
    await attach('data', { path: path('data.raw') });
    await host.restart();
    devices = operations();
    expect(diskIds()).toEqual(['cd', 'data']);
    expect(await attach('data', { path: path('data.raw') })).toEqual({ changed: false });
    await host.manager.stop('web', { graceMs: 0 });
    await host.manager.start('web');
    expect(await guest(`${waitFor('/dev/vda')} head -c 7 /dev/vda`)).toBe('written');
    expect(await devices.detachDisk({ vm: 'web', id: 'data' }, {})).toEqual({ changed: true });
  });
});
