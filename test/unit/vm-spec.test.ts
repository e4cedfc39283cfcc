import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { checkHostMemory, checkSpec } from '../../agent/vm/spec-check.ts';
import { isFairleadError } from '../../shared/errors.ts';
import { VmSpec, type VmSpecInput } from '../../shared/protocol/vm-spec.ts';

function parse(input: Partial<VmSpecInput>): VmSpec {
  return v.parse(VmSpec, { name: 'web', ...input });
}

/** The fields that the check refuses, with why. */
function refused(input: Partial<VmSpecInput>): string[] {
  try {
    checkSpec(parse(input));
    return [];
  } catch (error) {
    if (!isFairleadError(error)) throw error;
    // SAFETY: INVALID_PARAMS carries its issues.
    const issues = error.details?.['issues'] as unknown as { path: string; message: string }[];
    return issues.map(({ path, message }) => `${path}: ${message}`);
  }
}

describe('a spec', () => {
  test('gives each device an id and a slot where it has none, the lowest that are free', () => {
    const { vsock, networks, disks } = parse({
      vsock: {},
      networks: [{ type: 'user' }, { type: 'user', id: 'lan', slot: 0 }],
      disks: [{ path: '/a', id: 'disk1' }, { path: '/b' }, { path: '/c', slot: 3 }, { media: 'cdrom' }, { path: '/d' }],
    });
    expect(vsock).toEqual({ slot: 1 });
    expect(networks.map(({ id, slot }) => [id, slot])).toEqual([
      ['net0', 2],
      ['lan', 0],
    ]);
    expect(disks.map((disk) => [disk.id, 'slot' in disk ? disk.slot : undefined])).toEqual([
      ['disk1', 4],
      ['disk0', 5],
      ['disk2', 3],
      ['disk3', undefined],
      ['disk4', 6],
    ]);
  });

  test('that has been filled in is left as it is', () => {
    const filled = parse({
      vsock: {},
      networks: [{ type: 'bridge', bridge: 'br0' }],
      disks: [{ path: '/a' }, { media: 'cdrom' }],
    });
    expect(v.parse(VmSpec, JSON.parse(JSON.stringify(filled)))).toEqual(filled);
    const fewer = { ...filled, disks: filled.disks.slice(1) };
    expect(v.parse(VmSpec, fewer)).toEqual(fewer);
  });

  test('that an earlier version stored is still read', () => {
    const stored = {
      name: 'web',
      labels: {},
      machine: 'q35',
      accelerator: 'auto',
      cpus: { count: 1 },
      memory: { bytes: 268_435_456 },
      boot: { kernel: '/k' },
      disks: [{ path: '/d', format: 'raw', readOnly: false, throttle: { bytesPerSecond: 1, burstBytesPerSecond: 2 } }],
      networks: [{ type: 'user', forwards: [] }],
      vsock: { readyPort: 1023 },
      pciDevices: [],
      devices: { rng: true, balloon: true, pvpanic: true },
    };
    expect(v.parse(VmSpec, stored)).toMatchObject({
      memory: { backing: 'anonymous' },
      disks: [{ id: 'disk0', slot: 2, media: 'disk', cache: 'writeback', aio: 'threads' }],
      networks: [{ id: 'net0', slot: 1 }],
      vsock: { readyPort: 1023, slot: 0 },
      devices: { rng: true, vmgenid: true, hotplugSlots: 4 },
    });
  });

  test('has what its machine type can have', () => {
    expect(parse({ machine: 'q35' }).devices).toEqual({
      rng: true,
      balloon: true,
      pvpanic: true,
      vmgenid: true,
      hotplugSlots: 4,
    });
    expect(parse({ machine: 'virt' }).devices).toMatchObject({ pvpanic: true, vmgenid: false, hotplugSlots: 4 });
    expect(parse({ machine: 'microvm' }).devices).toMatchObject({ pvpanic: false, vmgenid: false, hotplugSlots: 0 });
    for (const machine of ['q35', 'virt', 'microvm'] as const) expect(refused({ machine })).toEqual([]);
  });
});

describe('the check of a spec', () => {
  const disks = (count: number) => Array.from({ length: count }, () => ({ path: '/d' }));

  test.each<[name: string, spec: Partial<VmSpecInput>, issues: string[]]>([
    [
      'memory of half a MiB',
      { memory: { bytes: 16.5 * 1024 ** 2 } },
      ['spec.memory.bytes: must be a whole number of MiB, such as 17MiB'],
    ],
    [
      'nothing to grow to',
      { memory: { bytes: '64MiB', maxBytes: '64MiB' } },
      ['spec.memory.maxBytes: must be more than memory.bytes, or left out'],
    ],
    [
      'growth by no whole block',
      { memory: { bytes: '64MiB', maxBytes: '65MiB' } },
      ['spec.memory.maxBytes: must be more than memory.bytes by a multiple of 2MiB'],
    ],
    [
      'CPUs that no topology makes',
      { cpus: { count: 3, topology: { sockets: 2, cores: 2 } } },
      ['spec.cpus.count: must be what the topology makes, 4'],
    ],
    [
      'arguments for no kernel',
      { boot: { args: 'quiet' } },
      ['spec.boot.kernel: is missing, and initrd and args are nothing without one'],
    ],
    [
      'native AIO through the page cache',
      { disks: [{ path: '/d', aio: 'native' }] },
      ['spec.disks[0].aio: native needs cache none, since Linux does it past the page cache only'],
    ],
    [
      'seven CD drives',
      { disks: Array.from({ length: 7 }, () => ({ media: 'cdrom' })) },
      ['spec.disks: may have at most 6 CD drives'],
    ],
    [
      'one port of the host forwarded twice',
      {
        networks: [
          { type: 'user', forwards: [{ hostPort: 8080, guestPort: 80 }] },
          {
            type: 'user',
            forwards: [
              { hostPort: 8080, guestPort: 80, protocol: 'udp' },
              { hostPort: 8080, guestPort: 81 },
            ],
          },
        ],
      },
      ['spec.networks[1].forwards[1]: tcp 8080 is forwarded already'],
    ],
    [
      'two devices of one id',
      {
        disks: [
          { path: '/a', id: 'x' },
          { path: '/b', id: 'x' },
        ],
      },
      ['spec.disks[1].id: is that of spec.disks[0] too'],
    ],
    [
      'a disk and a network of one id',
      { disks: [{ path: '/a', id: 'x' }], networks: [{ type: 'user', id: 'x' }] },
      ['spec.disks[0].id: is that of spec.networks[0] too'],
    ],
    [
      'an id of another device',
      { disks: [{ path: '/a', id: 'balloon0' }] },
      ['spec.disks[0].id: is of a form that belongs to other devices of the VM'],
    ],
    [
      'two devices in one slot',
      { vsock: { slot: 1 }, disks: [{ path: '/a', slot: 1 }], networks: [{ type: 'user', slot: 1 }] },
      ['spec.networks[0].slot: is that of spec.vsock too', 'spec.disks[0].slot: is that of spec.networks[0] too'],
    ],
    ['a guest agent on no vsock', { guestAgent: { via: 'vsock' } }, ['spec.guestAgent.via: is vsock, and the VM has no vsock']],
    [
      'waits that shrink',
      { restart: { delayMs: 5_000, maxDelayMs: 1_000 } },
      ['spec.restart.maxDelayMs: must be at least restart.delayMs'],
    ],
    [
      'all that a microvm cannot',
      {
        machine: 'microvm',
        devices: { hotplugSlots: 1, pvpanic: true, vmgenid: true },
        memory: { maxBytes: '1GiB' },
        boot: { firmware: { code: '/c', vars: '/v' } },
        pciDevices: ['0000:00:01.0'],
        disks: [{ media: 'cdrom' }],
      },
      [
        'spec.devices.hotplugSlots: a machine of type microvm cannot attach devices to a running VM',
        'spec.devices.pvpanic: a machine of type microvm has no pvpanic device',
        'spec.devices.vmgenid: a machine of type microvm has no generation id',
        'spec.memory.maxBytes: a machine of type microvm cannot grow in memory while it runs',
        'spec.boot.firmware.vars: a machine of type microvm has no flash for variables of its firmware',
        'spec.pciDevices: a machine of type microvm cannot have devices passed through',
        'spec.disks: a machine of type microvm has no CD drive',
      ],
    ],
    [
      'a generation id on virt',
      { machine: 'virt', devices: { vmgenid: true } },
      ['spec.devices.vmgenid: a machine of type virt has no generation id'],
    ],
    [
      'more devices than a microvm has room for',
      { machine: 'microvm', disks: disks(24) },
      ['spec.machine: microvm has only slots below 23, and so room for as many disks, networks and vsocks'],
    ],
  ])('refuses %s', (_, input, issues) => expect(refused(input)).toEqual(issues));

  test('takes 26 disks, and 23 on a microvm', () => {
    expect(refused({ disks: disks(26) })).toEqual([]);
    expect(refused({ machine: 'microvm', disks: disks(23) })).toEqual([]);
  });

  test('refuses more memory than the host has, with both figures', () => {
    const spec = parse({ memory: { bytes: '8GiB', maxBytes: '64GiB' } });
    expect(() => checkHostMemory(spec, 8 * 1024 ** 3)).not.toThrow();
    expect(() => checkHostMemory(spec, 4 * 1024 ** 3)).toThrow(
      'spec.memory.bytes of VM web is 8192MiB, and this host has 4096MiB',
    );
  });
});
