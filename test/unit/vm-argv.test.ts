import { describe, expect, test } from 'vitest';
import { buildArgs } from '../../agent/vm/argv/build-args.ts';
import type { ArgvHost } from '../../agent/vm/argv/host.ts';
import { macAddress } from '../../agent/vm/argv/networks.ts';
import { portCount, portsOf } from '../../agent/vm/argv/slots.ts';
import { checkSpec } from '../../agent/vm/spec-check.ts';
import type { VmSpec, VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { spec } from '../support/vm.ts';

const HOST: ArgvHost = {
  uuid: '6f2a1c58-6a0d-4e0c-9a57-0c4f0b8a1d11',
  accelerator: 'kvm',
  machine: 'pc-q35-7.2',
  sandbox: true,
  tscKhz: 2_596_138,
  vsock: undefined,
  paths: {
    monitorSocket: '/run/fairlead/web/monitor.sock',
    consolePipes: '/var/lib/fairlead/vms/web/console',
    consoleLog: '/var/lib/fairlead/vms/web/logs/console.log',
    guestAgentSocket: '/run/fairlead/web/agent.sock',
    ramFile: '/var/lib/fairlead/vms/web/ram',
    addedRamFile: '/var/lib/fairlead/vms/web/ram-added',
  },
};
const BOOT = { kernel: '/images/vmlinux', initrd: '/images/initrd.gz', args: 'console=ttyS0 quiet' };

const CASES: Record<string, { spec: VmSpecInput; host?: Partial<ArgvHost> }> = {
  'q35-least': { spec: { name: 'web', memory: {} } },
  'q35-full': {
    spec: {
      name: 'web',
      cpus: { count: 16, model: 'EPYC-v4,+x2apic', topology: { sockets: 2, dies: 2, cores: 2, threads: 2 } },
      memory: { bytes: '4GiB', maxBytes: '6GiB' },
      boot: BOOT,
      disks: [
        { path: '/images/root.qcow2', format: 'qcow2', readOnly: true, serial: 'ROOT' },
        { path: '/data/a,b "c"\n.raw', throttle: { bytesPerSecond: '10MiB', burstBytesPerSecond: '40MiB' } },
        { path: '/data/slow.raw', throttle: { operationsPerSecond: 100, burstOperationsPerSecond: 100 }, cache: 'writethrough' },
        {
          path: '/dev/vg/data',
          cache: 'none',
          aio: 'native',
          throttle: { operationsPerSecond: 500, burstOperationsPerSecond: 900 },
        },
        { path: '/data/scratch.raw', cache: 'unsafe', aio: 'io_uring' },
        { media: 'cdrom', path: '/images/tools.iso' },
        { media: 'cdrom' },
      ],
      networks: [
        { type: 'tap', tap: 'tap0', mac: '52:54:00:12:34:56' },
        { type: 'bridge', bridge: 'br0' },
        {
          type: 'user',
          forwards: [
            { hostPort: 8080, guestPort: 80 },
            { protocol: 'udp', hostPort: 5353, guestPort: 53 },
          ],
        },
      ],
      vsock: { readyPort: 1023 },
      guestAgent: { via: 'virtio-serial' },
      pciDevices: [
        '0000:3b:00.0',
        '/sys/bus/pci/devices/0000:5e:00.0/',
        '/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001',
      ],
    },
    host: {
      vsock: { cid: 4711, backend: { kind: 'vhost-vsock' } },
      devices: { vhostNet: true, taps: { net1: 'fl0123456789-02' }, blockDevices: ['/dev/vg/data'] },
    },
  },
  'q35-vhost-user': {
    spec: { name: 'web', boot: BOOT, vsock: {} },
    host: { accelerator: 'tcg', vsock: { cid: 3, backend: { kind: 'vhost-user', socketPath: '/run/fair,lead/web/vh' } } },
  },
  'q35-firmware': {
    spec: {
      name: 'web',
      memory: { bytes: '1GiB', maxBytes: '2GiB', backing: 'file' },
      boot: { firmware: { code: '/fw/OVMF,CODE.fd', vars: '/vms/web vars.fd' } },
      disks: [{ path: '/data/root.raw' }, { media: 'cdrom', path: '/images/setup.iso' }],
    },
  },
  'microvm-emulated': {
    spec: {
      name: 'web',
      machine: 'microvm',
      boot: BOOT,
      disks: [{ path: '/data/root.raw' }],
      networks: [{ type: 'user' }],
      vsock: {},
    },
    host: { accelerator: 'tcg', machine: 'microvm', vsock: { cid: 3, backend: { kind: 'vhost-user', socketPath: '/run/vh' } } },
  },
  'virt-bare': {
    spec: { name: 'web', machine: 'virt', devices: { rng: false, balloon: false, pvpanic: false, hotplugSlots: 0 } },
    host: { machine: 'virt-7.2', sandbox: false },
  },
  'virt-full': {
    spec: {
      name: 'web',
      machine: 'virt',
      cpus: { count: 2 },
      memory: { bytes: '1GiB', maxBytes: '2GiB' },
      boot: { ...BOOT, firmware: { code: '/fw/QEMU_EFI.fd' } },
      disks: [{ path: '/data/root.raw' }, { media: 'cdrom', path: '/images/setup.iso' }, { media: 'cdrom' }],
      networks: [{ type: 'user' }],
      vsock: {},
      guestAgent: {},
      pciDevices: ['0000:3b:00.0'],
    },
    host: { machine: 'virt-7.2', accelerator: 'tcg', vsock: { cid: 3, backend: { kind: 'vhost-vsock' } } },
  },
};

function argvOf(name: string): string[] {
  const { spec: input, host } = CASES[name] ?? { spec: { name } };
  return buildArgs(spec(input), { ...HOST, ...host });
}

/** The devices of a VM by their ids, as QEMU is told of them. */
function devicesOf(vm: VmSpec): Map<string, { bus?: string; addr?: string }> {
  const argv = buildArgs(vm, HOST);
  const devices = argv.filter((_, index) => argv[index - 1] === '-device').map((text) => JSON.parse(text));
  return new Map(devices.map((device) => [device.id, { bus: device.bus, addr: device.addr }]));
}

describe('the command line', () => {
  test.each(Object.keys(CASES))('of %s is this one, to the byte', async (name) => {
    await expect(`${JSON.stringify(argvOf(name), undefined, 2)}\n`).toMatchFileSnapshot(`golden/vm-argv-${name}.json`);
  });

  test('is the same each time', () => {
    expect(argvOf('q35-full')).toEqual(argvOf('q35-full'));
  });

  test('gives RAM one name, shared only where a vhost-user device must see it', () => {
    const ram = (name: string) => argvOf(name).find((argument) => argument.includes('"ram0"'));
    expect(ram('q35-full')).not.toContain('share');
    expect(ram('q35-vhost-user')).toContain('"share":true');
    expect(ram('q35-firmware')).toContain('"share":true');
  });

  test('checks the spec of every case here', () => {
    for (const { spec: input } of Object.values(CASES)) expect(() => checkSpec(spec(input))).not.toThrow();
  });

  test('leaves every device where it is when another comes or goes', () => {
    const disk = (id: string) => ({ id, path: `/${id}` });
    const before = spec({
      name: 'web',
      vsock: {},
      disks: [disk('a'), disk('b'), disk('c')],
      networks: [{ type: 'user' }, { type: 'user' }],
    });
    const without = { ...before, disks: before.disks.filter(({ id }) => id !== 'a'), networks: before.networks.slice(1) };
    const after = spec({
      ...without,
      disks: [disk('z'), ...without.disks],
      memory: { bytes: '64MiB', maxBytes: '128MiB' },
      guestAgent: {},
    });
    const [old, now] = [devicesOf(before), devicesOf(after)];
    for (const id of ['b', 'c', 'net1', 'rng0', 'balloon0', 'pvpanic0', 'slot0', 'slot3'])
      expect([id, now.get(id)]).toEqual([id, old.get(id)]);
    expect(now.get('z')).toEqual(old.get('net0'));
    expect(portsOf(buildArgs(after, HOST))).toBe(9);
  });

  test('never gives two devices one address', () => {
    const many = spec({
      name: 'web',
      vsock: {},
      guestAgent: {},
      memory: { bytes: '64MiB', maxBytes: '128MiB' },
      disks: Array.from({ length: 26 }, (_, index) => ({ path: `/${index}` })),
      networks: Array.from({ length: 16 }, () => ({ type: 'user' as const })),
      pciDevices: Array.from({ length: 16 }, (_, index) => `0000:${index + 10}:00.0`),
      devices: { hotplugSlots: 32 },
    });
    const places = [...devicesOf(many)]
      .filter(([id]) => id !== 'agent0' && id !== 'vmgenid0')
      .map(([, place]) => JSON.stringify(place));
    expect(new Set(places).size).toBe(places.length);
    expect(portsOf(buildArgs(many, HOST))).toBe(43 + 32);
  });

  test('keeps ports free for devices to come, also between those that are taken', () => {
    const count = (slots: number[], hotplugSlots: number) =>
      portCount(spec({ name: 'web', disks: slots.map((slot) => ({ path: '/d', slot })), devices: { hotplugSlots } }));
    expect(count([], 0)).toBe(0);
    expect(count([], 4)).toBe(4);
    expect(count([0, 1], 4)).toBe(6);
    expect(count([0, 2], 1)).toBe(3);
    expect(count([9], 4)).toBe(10);
  });

  test('tells an emulated microvm the rate of its clock, and nobody else', () => {
    const append = (name: string) => argvOf(name)[argvOf(name).indexOf('-append') + 1];
    expect(append('microvm-emulated')).toBe('console=ttyS0 quiet tsc_early_khz=2596138');
    expect(append('q35-vhost-user')).toBe('console=ttyS0 quiet');
  });

  test('invents a MAC address that is unicast, locally administered and its own for each NIC', () => {
    const addresses = [macAddress('web', 'net0'), macAddress('web', 'net1'), macAddress('db', 'net0')];
    expect(new Set(addresses).size).toBe(3);
    for (const address of addresses) {
      expect(address).toMatch(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
      expect(Number.parseInt(address.slice(0, 2), 16) & 0x03).toBe(0x02);
    }
    expect(macAddress('web', 'net0')).toBe(addresses[0]);
  });
});
