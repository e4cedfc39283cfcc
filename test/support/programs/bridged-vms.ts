/** VMs on a bridge, in a network namespace of their own: run by test/guest/vm-bridge.test.ts under `unshare -n`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { macAddress } from '../../../agent/vm/argv/networks.ts';
import { DeviceOperations } from '../../../agent/vm/devices/device-operations.ts';
import { tapName } from '../../../agent/vm/network/tap.ts';
import { artefacts } from '../../../cli/image/cache.ts';
import { parseParams } from '../../../shared/protocol/validate.ts';
import type { VmSpec, VmSpecInput } from '../../../shared/protocol/vm-spec.ts';
import { silent, spec, type TestHost, testHost } from '../vm.ts';
import { type Cases, runCases } from '../vm-cases.ts';

const BRIDGE = 'br0';
const UNTIL_MS = 60_000;

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

interface Link {
  readonly ifname: string;
  readonly master?: string;
  readonly mtu: number;
  readonly address: string;
  readonly ifalias?: string;
}

function links(): Link[] {
  // SAFETY: what `ip -json` prints of every link.
  return JSON.parse(ip('-json', 'link', 'show')) as Link[];
}

function taps(): Link[] {
  return links().filter(({ ifname }) => ifname.startsWith('fl'));
}

function bridged(more: Partial<VmSpecInput> = {}): VmSpec {
  return spec({ name: 'web', networks: [{ type: 'bridge', bridge: BRIDGE }], ...more });
}

/** The name that the tap of the VM's first NIC must have. */
function expectedTap({ options }: TestHost): string {
  return tapName({ dir: join(options.stateDir, 'vms', 'web') }, 0);
}

/** For what nothing tells of: the kernel's own tables. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const end = performance.now() + UNTIL_MS; !isSo(); await wait(100)) {
    if (performance.now() > end) throw new Error(`never: ${what}`);
  }
}

async function pidGone(pid: number): Promise<void> {
  await until(`process ${pid} is gone`, () => !existsSync(`/proc/${pid}/exe`));
}

const cases: Cases = {
  'has a tap on its bridge while it runs, and none after': async () => {
    await using host = await testHost();
    await host.manager.run(bridged());
    const [tap, ...others] = taps();
    assert.deepEqual(others, []);
    assert.equal(tap?.ifname, expectedTap(host));
    assert.equal(tap?.master, BRIDGE);
    assert.equal(tap?.mtu, 1400, 'the MTU of the bridge');
    assert.equal(tap?.address, `fe${macAddress('web', 'net0').slice(2)}`);
    assert.equal(tap?.ifalias, 'fairlead: network net0 of VM web');
    assert.equal(links().find(({ ifname }) => ifname === BRIDGE)?.mtu, 1400, 'and the bridge keeps it');
    await host.manager.stop('web', { graceMs: 0 });
    assert.deepEqual(taps(), []);
  },

  'has it still, the same one, when the agent comes back': async () => {
    await using host = await testHost();
    await host.manager.run(bridged());
    const before = taps();
    const manager = await host.restart();
    assert.equal(manager.get('web').state, 'running');
    assert.deepEqual(taps(), before);
    await manager.delete('web', { force: true });
    assert.deepEqual(taps(), []);
  },

  'leaves none behind when it dies while no agent is there': async () => {
    await using host = await testHost();
    const { pid } = await host.manager.run(bridged());
    assert.ok(pid !== undefined);
    await host.manager.close();
    process.kill(pid, 'SIGKILL');
    await pidGone(pid);
    assert.equal(taps().length, 1);
    const manager = await host.restart();
    assert.equal(manager.get('web').state, 'crashed');
    assert.deepEqual(taps(), []);
  },

  'replaces one that was left behind': async () => {
    await using host = await testHost();
    await host.manager.create(bridged());
    ip('tuntap', 'add', 'dev', expectedTap(host), 'mode', 'tap');
    await host.manager.start('web');
    assert.equal(taps()[0]?.master, BRIDGE);
  },

  'does not start without its bridge, and nothing is left': async () => {
    await using host = await testHost();
    const two: VmSpecInput['networks'] = [
      { type: 'bridge', bridge: BRIDGE },
      { type: 'bridge', bridge: 'br9' },
    ];
    await assert.rejects(host.manager.run(bridged({ networks: two })), {
      code: 'NOT_FOUND',
      message: 'network net1 of VM web wants the bridge br9, and this host has none of that name',
    });
    await assert.rejects(host.manager.run(bridged({ networks: [{ type: 'bridge', bridge: 'lo' }] })), {
      code: 'UNSUPPORTED',
      message: 'network net0 of VM web wants the bridge lo, which is an interface of another kind',
    });
    assert.deepEqual(taps(), []);
    assert.deepEqual(host.manager.list(), []);
  },

  'does not start on a tap that is not there, and leaves one that is as it was': async () => {
    await using host = await testHost();
    const on = (tap: string) => bridged({ networks: [{ type: 'tap', tap }] });
    await assert.rejects(host.manager.run(on('tap9')), {
      code: 'NOT_FOUND',
      message: /^network net0 of VM web wants the tap tap9, and this host has none of that name/,
    });
    ip('tuntap', 'add', 'dev', 'tap0', 'mode', 'tap');
    const before = links();
    await host.manager.run(on('tap0'));
    await host.manager.stop('web', { graceMs: 0 });
    assert.deepEqual(links(), before);
  },

  'has one made for a network that is attached, and removed with it': async () => {
    await using host = await testHost();
    await host.manager.run(spec({ name: 'web' }));
    using devices = new DeviceOperations({ vms: host.manager, logger: silent, checkPolicy: async () => {} });
    const attach = (id: string, network: object) =>
      devices.attachNetwork(parseParams('network.attach', { vm: 'web', id, network }), {});
    await attach('lan', { type: 'bridge', bridge: BRIDGE });
    assert.equal(taps()[0]?.master, BRIDGE);
    assert.equal(taps()[0]?.ifalias, 'fairlead: network lan of VM web');
    await assert.rejects(attach('other', { type: 'bridge', bridge: 'br9' }), { code: 'NOT_FOUND' });
    await assert.rejects(attach('other', { type: 'tap', tap: 'tap9' }), { code: 'NOT_FOUND' });
    assert.equal(taps().length, 1);
    assert.deepEqual(
      host.manager.get('web').spec.networks.map(({ id }) => id),
      ['lan'],
    );
    // Firmware answers no unplug; QEMU makes up for that when the machine is reset.
    await assert.rejects(devices.detachNetwork({ vm: 'web', id: 'lan' }, { timeoutMs: 1_000 }), { code: 'GUEST_UNRESPONSIVE' });
    await host.manager.reset('web');
    assert.equal(await devices.find('web', 'lan'), undefined);
    assert.deepEqual(taps(), []);
  },

  'says what it takes where the agent may not make a tap': async () => {
    await using host = await testHost();
    const program = join(host.options.stateDir, 'ip');
    writeFileSync(program, '#!/bin/sh\nexec setpriv --bounding-set=-net_admin --inh-caps=-net_admin /usr/sbin/ip "$@"\n', {
      mode: 0o755,
    });
    const path = process.env['PATH'];
    process.env['PATH'] = `${host.options.stateDir}:${path}`;
    try {
      await assert.rejects(host.manager.run(bridged()), {
        code: 'PERMISSION_DENIED',
        message: /^could not make network net0 of VM web: .*not permitted.*CAP_NET_ADMIN, or name an existing tap instead$/,
      });
    } finally {
      process.env['PATH'] = path;
    }
    assert.deepEqual(taps(), []);
  },

  'keeps RAM in files of its own, which nobody else may read and which go with it': async () => {
    await using host = await testHost();
    await host.manager.run(bridged({ memory: { bytes: '64MiB', maxBytes: '128MiB', backing: 'file' } }));
    const files = ['web.ram', 'web.ram-added'].map((name) => join(host.options.stateDir, 'ram', name));
    for (const file of files) {
      const { size, mode } = statSync(file);
      assert.equal(size, 64 * 1024 ** 2);
      assert.equal(mode & 0o777, 0o600);
    }
    await host.manager.stop('web', { graceMs: 0 });
    assert.deepEqual(files.filter(existsSync), []);
  },

  'sends frames of its guest over the bridge': async () => {
    const { vmlinux, initrd } = artefacts();
    if (vmlinux === undefined || initrd === undefined) return 'not tried: there is no guest image';
    await using host = await testHost();
    const boot = { kernel: vmlinux, initrd, args: 'console=ttyS0 reboot=t panic=-1 quiet' };
    await host.manager.run(bridged({ memory: { bytes: '256MiB' }, boot }));
    const learned = (): string => execFileSync('bridge', ['fdb', 'show', 'br', BRIDGE], { encoding: 'utf8' });
    await until('the bridge has heard of the guest', () => learned().includes(macAddress('web', 'net0')));
    return `learned ${macAddress('web', 'net0')}`;
  },
};

ip('link', 'add', BRIDGE, 'type', 'bridge');
ip('link', 'set', BRIDGE, 'mtu', '1400', 'up');
await runCases(cases);
