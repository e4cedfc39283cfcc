/** What a guest sees of its machine, read off a command line, and what counts as a difference. */
import { describe, expect, it } from 'vitest';
import { buildArgs } from '../../agent/vm/argv/build-args.ts';
import { differencesOf, type GuestAbi, guestAbiOf, withPorts } from '../../agent/vm/snapshot/guest-abi.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { spec } from '../support/vm.ts';

const PATHS = {
  monitorSocket: '/run/m',
  consolePipes: '/s/console',
  consoleLog: '/s/console.log',
  guestAgentSocket: '/run/a',
  ramFile: '/ram',
  addedRamFile: '/ram-added',
};

function abiOf(input: Partial<VmSpecInput>, ports?: number): GuestAbi {
  const facts = { accelerator: 'tcg', machine: 'pc-q35-7.2', sandbox: true, tscKhz: undefined, vsock: undefined } as const;
  const argv = buildArgs(spec({ name: 'web', ...input }), { uuid: 'u', ...facts, paths: PATHS, ports });
  return guestAbiOf(argv, (model) => `of ${model}`);
}

const BASE: Partial<VmSpecInput> = { disks: [{ path: '/a.img' }], networks: [{ type: 'user' }] };

describe('the ABI of a guest', () => {
  it('names machine, CPU, memory and every device with its address', () => {
    expect(abiOf(BASE)).toMatchObject({
      machine: expect.stringContaining('pc-q35-7.2'),
      cpu: 'max',
      cpuOf: 'of max',
      memory: '64M',
      devices: {
        disk0: { driver: 'virtio-blk-pci', bus: 'slot1', 'write-cache': 'on' },
        net0: { driver: 'virtio-net-pci', bus: 'slot0' },
        balloon0: { addr: '02.0', 'free-page-reporting': true },
      },
    });
  });

  it.each<[string, Partial<VmSpecInput>]>([
    [
      'another file behind a disk',
      { ...BASE, disks: [{ path: '/b, "c".img', format: 'qcow2', aio: 'io_uring', cache: 'none' }] },
    ],
    ['limits of a disk', { ...BASE, disks: [{ path: '/a.img', throttle: { bytesPerSecond: 1000 } }] }],
    [
      'another MAC address, which the saved state brings along',
      { disks: BASE.disks, networks: [{ type: 'user', mac: '02:00:00:00:00:01' }] },
    ],
    ['RAM in a file', { ...BASE, memory: { bytes: '64MiB', backing: 'file' } }],
  ])('is the same with %s', (_, other) => {
    expect(differencesOf(abiOf(BASE), abiOf(other))).toEqual([]);
  });

  it.each<[string, Partial<VmSpecInput>, RegExp]>([
    [
      'a device more',
      { ...BASE, disks: [{ path: '/a.img' }, { path: '/b.img' }] },
      /device disk1 was nothing and is virtio-blk-pci/,
    ],
    ['a device less', { disks: BASE.disks, networks: [] }, /device net0 was virtio-net-pci and is nothing/],
    ['a device elsewhere', { ...BASE, disks: [{ path: '/a.img', slot: 3 }] }, /bus of disk0 was slot1 and is slot3/],
    ['another size of memory', { ...BASE, memory: { bytes: '128MiB' } }, /memory was 64M and is 128M/],
    ['another CPU', { ...BASE, cpus: { model: 'Nehalem' } }, /cpu was max and is Nehalem/],
    ['another number of CPUs', { ...BASE, cpus: { count: 2 } }, /smp was 1 and is 2/],
    [
      'a disk that shows another serial',
      { ...BASE, disks: [{ path: '/a.img', serial: 'x' }] },
      /serial of disk0 was nothing and is x/,
    ],
  ])('differs by %s, and says so', (_, other, difference) => {
    expect(differencesOf(abiOf(BASE), abiOf(other)).join('; ')).toMatch(difference);
  });

  it('differs by whose CPU it is', () => {
    const here = abiOf(BASE);
    expect(differencesOf({ ...here, cpuOf: 'QEMU 7.2.22' }, here)).toEqual(["the CPU's origin was QEMU 7.2.22 and is of max"]);
  });

  it('has as many ports as the machine that it was saved in, whatever has come since', () => {
    const before = spec({ name: 'web', disks: [{ path: '/a.img' }] });
    const grown = spec({ name: 'web', disks: [{ path: '/a.img' }, { path: '/b.img', slot: 4 }] });
    const portsOf = (argv: readonly string[]) => argv.filter((text) => text.includes('"pcie-root-port"')).length;
    const facts = { uuid: 'u', accelerator: 'tcg', machine: 'm', sandbox: true, tscKhz: undefined, vsock: undefined } as const;
    const ports = portsOf(buildArgs(before, { ...facts, paths: PATHS }));
    expect(portsOf(buildArgs(withPorts(grown, ports), { ...facts, paths: PATHS }))).toBe(ports);
  });
});
