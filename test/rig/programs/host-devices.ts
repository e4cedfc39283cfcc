/**
 * What a VM is given of its host: a network whose packets the kernel moves (vhost-net), and PCI devices passed through to it. Run inside a
 * VM that has KVM, /dev/vhost-vsock and three spare network cards behind an IOMMU, as root.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { chooseTransport } from '../../../agent/streams/choose.ts';
import { DeviceOperations } from '../../../agent/vm/devices/device-operations.ts';
import { parseParams } from '../../../shared/protocol/validate.ts';
import { inGuest, linuxHost, linuxSpec, runLinux } from '../../support/linux-vm.ts';
import { silent, spec, type TestHost, testHost } from '../../support/vm.ts';
import { runCases } from '../../support/vm-cases.ts';

const BRIDGE = 'br0';
const HOST_ADDRESS = '10.9.0.1';
const GUEST_ADDRESS = '10.9.0.2';
const CARDS = ['0000:00:10.0', '0000:00:11.0', '0000:00:12.0'] as const;
const MACS = CARDS.map((address) => `52:54:00:00:00:${address.slice(8, 10)}`);
const MDEV_PATH = `/sys/bus/mdev/devices/${CARDS[2]}`;
const USER = '1234';
const PCI = '/sys/bus/pci';

const vsock = await chooseTransport({ want: 'vhost-vsock', path: '', logger: silent });
await using host = await linuxHost({ vsock });
const { manager } = host;
const kvm = { name: 'web', accelerator: 'kvm', memory: { bytes: '192MiB' } } as const;

const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' });
const ip = (...args: string[]): string => run('ip', ...args);
const pidOf = (vm: string): number => manager.get(vm).pid ?? 0;

function opened(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
}

/** The IOMMU groups that a process holds. */
function groupsOf(pid: number): string[] {
  return [...new Set(opened(pid).filter((path) => /^\/dev\/vfio\/\d+$/.test(path)))];
}

/** The kernel's thread that moves the packets of that process, and how often it has gone to sleep: it does so when all are moved. */
function vhostThread(pid: number): { readonly sleeps: number } | undefined {
  const thread = new RegExp(`^ *(\\d+) +vhost-${pid}$`, 'm').exec(run('ps', '-o', 'pid,comm'))?.[1];
  if (thread === undefined) return undefined;
  const status = readFileSync(`/proc/${thread}/status`, 'utf8');
  return { sleeps: Number(/^voluntary_ctxt_switches:\s(\d+)/m.exec(status)?.[1]) };
}

await runCases({
  'the network of a VM on a bridge is moved by the kernel': async () => {
    run('/bin/load', 'network');
    ip('link', 'add', BRIDGE, 'type', 'bridge');
    ip('addr', 'add', `${HOST_ADDRESS}/24`, 'dev', BRIDGE);
    ip('link', 'set', BRIDGE, 'up');
    await runLinux(manager, { ...kvm, networks: [{ type: 'bridge', bridge: BRIDGE }] });
    await inGuest(manager, 'web', `killall udhcpc; ip addr add ${GUEST_ADDRESS}/24 dev eth0`);
    assert.ok(opened(pidOf('web')).includes('/dev/vhost-net'));
    assert.ok(vhostThread(pidOf('web')) !== undefined);
  },

  'packets pass between host and guest': async () => {
    const before = vhostThread(pidOf('web'))?.sleeps ?? 0;
    assert.match(run('ping', '-c', '5', '-i', '0.2', GUEST_ADDRESS), /5 packets received/);
    const after = vhostThread(pidOf('web'))?.sleeps ?? 0;
    const content = randomBytes(1 << 20);
    const server = createServer((_, response) => response.end(content)).listen(8000, HOST_ADDRESS);
    const sum = await inGuest(manager, 'web', `wget -q -O - http://${HOST_ADDRESS}:8000/ | sha256sum`);
    server.close();
    assert.equal(sum, `${createHash('sha256').update(content).digest('hex')}  -`);
    assert.ok(after - before >= 5, `vhost's thread worked ${after - before} times`);
    return `vhost's thread worked ${after - before} times for 5 pings`;
  },

  'a network that is attached is moved by the kernel too': async () => {
    using devices = operationsOn(host);
    await attachBridge(devices);
    assert.equal(opened(pidOf('web')).filter((path) => path === '/dev/vhost-net').length, 2);
    await manager.delete('web', { force: true });
  },

  'it is moved by QEMU where its user may not have the kernel do it': async () => {
    run('chmod', '666', '/dev/net/tun'); // as udev has it, which leaves /dev/vhost-net to root
    await using confined = await confinedHost();
    const { pid = 0 } = await confined.manager.run(spec({ name: 'web', networks: [{ type: 'bridge', bridge: BRIDGE }] }));
    using devices = operationsOn(confined);
    await attachBridge(devices);
    assert.equal(opened(pid).filter((path) => path === '/dev/net/tun').length, 2);
    assert.ok(!opened(pid).includes('/dev/vhost-net'));
  },

  'a device that the host itself uses is not passed through, and that is said': async () => {
    run('/bin/load', 'passthrough');
    const refused = (device: string) => manager.run(linuxSpec({ ...kvm, pciDevices: [device] }));
    await assert.rejects(refused('00:1e.0'), {
      code: 'NOT_FOUND',
      message: 'spec.pciDevices[0] of VM web is 00:1e.0: this host has no such device',
    });
    await assert.rejects(refused('00:10.0'), {
      code: 'CONFLICT',
      message:
        /^spec.pciDevices\[0\] of VM web is 00:10.0, which the host has not given away \(driver: virtio-pci\): give it to /,
    });
    assert.deepEqual(manager.list(), []);
  },

  "one of a group that QEMU's user may not open is not, either": async () => {
    for (const card of CARDS) giveAway(card);
    standInForMdev();
    await using confined = await confinedHost();
    await assert.rejects(confined.manager.run(spec({ name: 'web', pciDevices: [CARDS[0]] })), {
      code: 'PERMISSION_DENIED',
      message: /^spec.pciDevices\[0\] of VM web is "\/dev\/vfio\/\d+", which user 1234 \(uid 1234\) cannot read/,
    });
  },

  'devices are passed through by address, by the path of a PCI device, and by that of a mediated one': async () => {
    await runLinux(manager, { ...kvm, pciDevices: ['00:10.0', `${PCI}/devices/${CARDS[1]}`, MDEV_PATH] });
    assert.equal(groupsOf(pidOf('web')).length, CARDS.length);
    const nics = await inGuest(manager, 'web', 'cat /sys/class/net/eth*/address');
    assert.deepEqual(nics.split('\n'), MACS);
    const ids = await inGuest(manager, 'web', 'cat /sys/class/net/eth*/device/../vendor /sys/class/net/eth*/device/../device');
    assert.deepEqual(ids.split('\n'), [...MACS.map(() => '0x1af4'), ...MACS.map(() => '0x1041')]);
  },

  'packets pass between the guest and what is behind each of them': async () => {
    for (const nic of ['eth0', 'eth1', 'eth2']) {
      const lease = `ip link set ${nic} up; udhcpc -n -q -i ${nic} -s /etc/udhcpc.script`;
      assert.match(await inGuest(manager, 'web', lease), /lease of 10.0.2.15 obtained from 10.0.2.2/);
    }
  },

  'they are free again when the VM has ended, and it is not suspended before': async () => {
    await assert.rejects(manager.suspend('web', { durability: 'process' }), { code: 'UNSUPPORTED' });
    await manager.delete('web', { force: true });
    const { pid = 0 } = await manager.run(spec({ name: 'web', accelerator: 'kvm', pciDevices: [CARDS[0]] }));
    assert.equal(groupsOf(pid).length, 1);
  },
});

/** A host whose QEMU runs as another user, who has no share in what is root's. */
async function confinedHost(): Promise<TestHost> {
  const confined = await testHost({ confinement: { user: USER, group: USER } });
  run('chmod', '711', join(confined.options.stateDir, '..'));
  return confined;
}

function operationsOn({ manager: vms }: TestHost): DeviceOperations {
  return new DeviceOperations({ vms, logger: silent, checkPolicy: async () => {} });
}

async function attachBridge(devices: DeviceOperations): Promise<void> {
  const network = { type: 'bridge', bridge: BRIDGE };
  await devices.attachNetwork(parseParams('network.attach', { vm: 'web', id: 'lan', network }), {});
}

/** From the host's own driver to the one that hands it on. */
function giveAway(address: string): void {
  const device = `${PCI}/devices/${address}`;
  writeFileSync(`${device}/driver_override`, 'vfio-pci');
  writeFileSync(`${device}/driver/unbind`, address);
  writeFileSync(`${PCI}/drivers_probe`, address);
}

/**
 * This kernel has no mediated devices. QEMU knows one by its path alone, and opens it as it does any other: so a PCI device stands at such
 * a path.
 */
function standInForMdev(): void {
  mkdirSync('/tmp/bus');
  run('mount', '--bind', '/sys/bus', '/tmp/bus');
  run('mount', '-t', 'tmpfs', 'bus', '/sys/bus');
  mkdirSync('/sys/bus/pci');
  run('mount', '--bind', '/tmp/bus/pci', '/sys/bus/pci');
  mkdirSync(dirname(MDEV_PATH), { recursive: true });
  symlinkSync(realpathSync(`${PCI}/devices/${CARDS[2]}`), MDEV_PATH);
}
