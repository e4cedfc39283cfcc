/** Each rule of a host's policy, and what a hub would try to get round it. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAgentConfig } from '../../agent/config.ts';
import { Policy, type PolicyConfig } from '../../agent/rpc/policy.ts';
import { toFairleadError } from '../../shared/errors.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec } from '../support/vm.ts';

const web = (input: Omit<VmSpecInput, 'name'> = {}) => spec({ name: 'web', ...input });
const policyOf = (config: Partial<PolicyConfig> = {}) => new Policy({ ...OPEN_POLICY, ...config });

/** The setting by which it is refused, `nothing` where it is allowed. A refusal names the setting for people too. */
async function refusedBy(action: () => unknown): Promise<string> {
  try {
    await action();
    return 'nothing';
  } catch (error) {
    const { code, message, details } = toFairleadError(error);
    const setting = details?.['setting'];
    return typeof setting === 'string' && code === 'PERMISSION_DENIED' && message.includes(setting)
      ? setting
      : `${code}: ${message}`;
  }
}

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'fl-policy-'));
  for (const directory of ['images', 'firmware', 'sockets']) await mkdir(join(root, directory));
  for (const file of ['images/disk', 'firmware/code.fd', 'secret']) await writeFile(join(root, file), '');
  await symlink(root, join(root, 'sockets/out'));
});
afterAll(() => rm(root, { recursive: true }));

it('a host that is told nothing gives guests no network, no port of its own and no way out', async () => {
  const policy = new Policy(parseAgentConfig({ hub: 'wss://hub.example', stateDir: '/var/lib/fairlead', host: 'h' }));
  expect(await refusedBy(() => policy.checkSpec(web()))).toBe('nothing');
  expect(await refusedBy(() => policy.checkSpec(web({ networks: [{ type: 'user' }] })))).toBe('networks');
  expect(await refusedBy(() => policy.checkSpec(web({ networks: [{ type: 'tap', tap: 'tap0' }] })))).toBe('networks');
  expect(await refusedBy(() => policy.checkSpec(web({ disks: [{ path: '/etc/shadow' }] })))).toBe('imageRoots');
  expect(await refusedBy(() => policy.checkSpec(web({ pciDevices: ['01:00.0'] })))).toBe('pciDevices');
  expect(await refusedBy(() => policy.checkMigration('tcp:10.0.0.1:4444'))).toBe('migrationTargets');
  expect(await refusedBy(() => policy.checkQmp('blockdev-add', {}, web))).toBe('qmpCommands');
});

describe('networks', () => {
  it.each([
    [['user'], { type: 'user' }, true],
    [['tap:vm*'], { type: 'tap', tap: 'vm7' }, true],
    [['bridge:br0'], { type: 'bridge', bridge: 'br0' }, true],
    [['tap:vm*'], { type: 'tap', tap: 'eth0' }, false],
    [['bridge:br0'], { type: 'bridge', bridge: 'br01' }, false],
    [['tap:*'], { type: 'bridge', bridge: 'br0' }, false],
    [['tap:user'], { type: 'user' }, false],
    [['user'], { type: 'tap', tap: 'user' }, false],
  ] as const)('%j with %j: %s', async (networks, network, isAllowed) => {
    const asked = () => policyOf({ networks }).checkSpec(web({ networks: [network] }));
    expect(await refusedBy(asked)).toBe(isAllowed ? 'nothing' : 'networks');
  });

  it('forward the ports of the host that they may, each of them', async () => {
    const policy = policyOf({ forwardPorts: ['8000-8099'] });
    const forwarding = (...ports: number[]) =>
      policy.checkSpec(web({ networks: [{ type: 'user', forwards: ports.map((hostPort) => ({ hostPort, guestPort: 80 })) }] }));
    expect(await refusedBy(() => forwarding(8000, 8099))).toBe('nothing');
    expect(await refusedBy(() => forwarding(8000, 7999))).toBe('forwardPorts');
  });
});

describe('sizes', () => {
  it('bound the CPUs of one VM, and its memory as far as it can grow', async () => {
    const policy = policyOf({ maxVmCpus: 2, maxVmMemory: 128 * 1024 ** 2 });
    expect(await refusedBy(() => policy.checkSpec(web({ cpus: { count: 2 }, memory: { bytes: '128MiB' } })))).toBe('nothing');
    expect(await refusedBy(() => policy.checkSpec(web({ cpus: { count: 3 } })))).toBe('maxVmCpus');
    expect(await refusedBy(() => policy.checkSpec(web({ memory: { bytes: '256MiB' } })))).toBe('maxVmMemory');
    expect(await refusedBy(() => policy.checkSpec(web({ memory: { bytes: '64MiB', maxBytes: '256MiB' } })))).toBe('maxVmMemory');
  });
});

describe('files', () => {
  it('of firmware come from where the system has them, its variables from where the guests have theirs', async () => {
    const policy = policyOf({ firmwareRoots: [join(root, 'firmware')], imageRoots: [join(root, 'images')] });
    const booting = (code: string, vars?: string) =>
      policy.checkSpec(web({ boot: { firmware: { code: join(root, code), ...(vars && { vars: join(root, vars) }) } } }));
    expect(await refusedBy(() => booting('firmware/code.fd', 'images/vars.fd'))).toBe('nothing');
    expect(await refusedBy(() => booting('secret'))).toBe('firmwareRoots');
    expect(await refusedBy(() => booting('firmware/code.fd', 'firmware/vars.fd'))).toBe('imageRoots');
  });

  it('that do not exist yet are held to where their directory leads', async () => {
    await symlink(root, join(root, 'images/out'));
    const policy = policyOf({ imageRoots: [join(root, 'images')] });
    expect(await refusedBy(() => policy.checkSpec(web({ disks: [{ path: join(root, 'images/new') }] })))).toBe('nothing');
    expect(await refusedBy(() => policy.checkSpec(web({ disks: [{ path: join(root, 'images/out/new') }] })))).toBe('imageRoots');
  });

  it('of a CD drive count, and an empty drive has none', async () => {
    const policy = policyOf({ imageRoots: [join(root, 'images')] });
    expect(await refusedBy(() => policy.checkSpec(web({ disks: [{ media: 'cdrom' }] })))).toBe('nothing');
    expect(await refusedBy(() => policy.checkSpec(web({ disks: [{ media: 'cdrom', path: join(root, 'secret') }] })))).toBe(
      'imageRoots',
    );
  });
});

describe('raw QMP commands', () => {
  it.each(['quit', 'stop', 'cont', 'system_reset', 'system_powerdown', 'migrate', 'migrate_cancel'])(
    'no wildcard stands for %s, which a method does better',
    async (command) => {
      expect(await refusedBy(() => policyOf({ qmpCommands: ['*'] }).checkQmp(command, {}, web))).toBe('qmpCommands');
      expect(() => policyOf({ qmpCommands: ['*'] }).checkQmp(command, {}, web)).toThrow('vm.');
      expect(() => policyOf({ qmpCommands: [command] }).checkQmp(command, {}, web)).not.toThrow();
    },
  );

  const withDisk = web({ disks: [{ id: 'data', path: '/x' }], networks: [{ type: 'user' }] });
  it.each([
    ['device_del', { id: 'data' }],
    ['device_del', { id: '/machine/peripheral/data' }],
    ['device_del', { id: '/machine/peripheral/data/' }],
    ['device_del', { id: '/machine/peripheral/slot3/slot3/child[0]' }],
    ['device_del', { id: 'vsock0' }],
    ['device_del', { id: 'net0' }],
    ['netdev_del', { id: 'net0-dev' }],
    ['blockdev-del', { 'node-name': 'data-format' }],
    ['object-del', { id: 'ram0' }],
    ['chardev-remove', { id: 'qmp' }],
  ])('%s takes nothing away that is of the VM: %j', (command, args) => {
    const policy = policyOf({ qmpCommands: ['*', command] });
    expect(() => policy.checkQmp(command, args, () => withDisk)).toThrow(/Fairlead counts on it|name it by its id/);
    const argument = Object.keys(args)[0] ?? '';
    expect(() => policy.checkQmp(command, { [argument]: 'mine' }, () => withDisk)).not.toThrow();
  });
});

describe('migration', () => {
  it.each([
    [['tcp:10.0.0.*'], 'tcp:10.0.0.7:4444', true],
    [['tcp:10.0.0.7:4444'], 'tcp:10.0.0.7:4445', false],
    [['tcp:10.0.0.*'], 'tcp:10.0.1.7:4444', false],
    [['tcp:*'], 'unix:/run/x', false],
    [['*'], 'unix:/run/x', true],
  ])('%j with %s: %s', async (migrationTargets, uri, isAllowed) => {
    const asked = () => policyOf({ migrationTargets }).checkMigration(uri);
    expect(await refusedBy(asked)).toBe(isAllowed ? 'nothing' : 'migrationTargets');
  });

  it('to a socket is held to the directories that are named, wherever links lead', async () => {
    const policy = policyOf({ migrationTargets: [`unix:${root}/sockets`] });
    expect(await refusedBy(() => policy.checkMigration(`unix:${root}/sockets/in`))).toBe('nothing');
    for (const path of ['other/in', 'sockets/../in', 'sockets/out/in', 'socketsx/in']) {
      expect(await refusedBy(() => policy.checkMigration(`unix:${root}/${path}`))).toBe('migrationTargets');
    }
  });
});
