import { describe, expect, test } from 'vitest';
import { buildArgs } from '../../agent/vm/argv/build-args.ts';

import type { ArgvHost } from '../../agent/vm/argv/host.ts';
import { macAddress } from '../../agent/vm/argv/networks.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
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
    consoleSocket: '/run/fairlead/web/console.sock',
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
      memory: { bytes: '4GiB' },
      boot: BOOT,
      disks: [
        { path: '/images/root.qcow2', format: 'qcow2', readOnly: true, serial: 'ROOT' },
        { path: '/data/a,b "c"\n.raw', throttle: { bytesPerSecond: '10MiB', burstBytesPerSecond: '40MiB' } },
        { path: '/data/slow.raw', throttle: { bytesPerSecond: '10MiB', burstBytesPerSecond: '1MiB' } },
        { path: '/data/free.raw', throttle: { bytesPerSecond: 0 } },
      ],
      networks: [
        { type: 'tap', tap: 'tap0', mac: '52:54:00:12:34:56' },
        {
          type: 'user',
          forwards: [
            { hostPort: 8080, guestPort: 80 },
            { protocol: 'udp', hostPort: 5353, guestPort: 53 },
          ],
        },
      ],
      vsock: { readyPort: 1023 },
      pciDevices: [
        '0000:3b:00.0',
        '/sys/bus/pci/devices/0000:5e:00.0/',
        '/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001',
      ],
    },
    host: { vsock: { cid: 4711, backend: { kind: 'vhost-vsock' } } },
  },
  'q35-vhost-user': {
    spec: { name: 'web', boot: BOOT, vsock: {} },
    host: { accelerator: 'tcg', vsock: { cid: 3, backend: { kind: 'vhost-user', socketPath: '/run/fair,lead/web/vh' } } },
  },
  'microvm-emulated': {
    spec: { name: 'web', machine: 'microvm', boot: BOOT, vsock: {} },
    host: { accelerator: 'tcg', machine: 'microvm', vsock: { cid: 3, backend: { kind: 'vhost-user', socketPath: '/run/vh' } } },
  },
  'virt-bare': {
    spec: { name: 'web', machine: 'virt', devices: { rng: false, balloon: false, pvpanic: false } },
    host: { machine: 'virt-7.2', sandbox: false },
  },
};

function argvOf(name: string): string[] {
  const { spec: input, host } = CASES[name] ?? { spec: { name } };
  return buildArgs(spec(input), { ...HOST, ...host });
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
