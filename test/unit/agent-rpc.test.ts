import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Upkeep } from '../../agent/desired/upkeep.ts';
import { ImagesOnDemand } from '../../agent/images/on-demand.ts';
import { Dispatcher } from '../../agent/rpc/dispatcher.ts';
import { allHandlers } from '../../agent/rpc/handlers/all.ts';
import type { Handlers } from '../../agent/rpc/handlers/types.ts';
import { Policy, type PolicyConfig } from '../../agent/rpc/policy.ts';
import { updatesOnDemand } from '../../agent/update/on-demand.ts';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { Guests } from '../../agent/vm/guest-agent/guests.ts';
import { Snapshots } from '../../agent/vm/snapshot/snapshots.ts';
import { CancelSource } from '../../shared/cancellation.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { parseParams, parseResult } from '../../shared/protocol/validate.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';
import { onceOf } from '../support/once.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { silent } from '../support/vm.ts';

const open = OPEN_POLICY;

function context(overrides: Partial<RequestContext> = {}): RequestContext {
  return {
    id: 1,
    method: 'test',
    signal: new AbortController().signal,
    cancellation: new CancelSource(),
    remainingMs: () => 1000,
    wantsProgress: true,
    progress: () => {},
    trace: {},
    meta: {},
    ...overrides,
  };
}

function setUp(policyConfig: Partial<PolicyConfig> = {}, vms = new FakeVms()) {
  const policy = new Policy({ ...open, ...policyConfig });
  const outcomes: string[] = [];
  const observer = {
    started: (method: string) => void outcomes.push(`${method} started`),
    ended: (method: string, code: string) => void outcomes.push(`${method} ${code}`),
  };
  const guests = new Guests(vms, silent);
  const { once } = onceOf(vms);
  const devices = new DeviceOperations({ vms, logger: silent, checkPolicy: (spec) => policy.checkSpec(spec) });
  const snapshots = new Snapshots({
    vms,
    directory: '/none',
    checkPolicy: (spec) => policy.checkSpec(spec),
    vsockKind: undefined,
    setClock: async () => {},
    seedGuest: async () => {},
    nameGuest: async () => {},
    logger: silent,
  });
  const openAtHub = () => Promise.reject(new FairleadError('INTERRUPTED', 'there is no hub'));
  const images = new ImagesOnDemand({
    vms,
    stateDir: '/none',
    recordDirectories: [],
    maxImageBytes: 0,
    logger: silent,
    openAtHub,
  });
  const pull = async () => '/none';
  const updates = updatesOnDemand({ launcher: undefined, releaseKeys: [], pull, brokenVms: () => [] });
  const upkeep: Upkeep = new Upkeep(() => ({ stateDir: '/none', vms, handlers, policy, logger: silent }));
  const handlers: Handlers = allHandlers(vms, policy, guests, once, devices, snapshots, images, upkeep, updates);
  const dispatcher = new Dispatcher({ handlers, policy, observer, once });
  const call = (method: string, params: JsonObject = {}, overrides: Partial<RequestContext> = {}) =>
    dispatcher.request(method, params, context(overrides));
  return { call, outcomes, vms };
}

describe('the dispatcher', () => {
  it('carries each call to the VM manager and its answer back', async () => {
    const { call, vms, outcomes } = setUp();
    const calls: [string, JsonObject][] = [
      ['host.info', {}],
      ['vm.create', { spec: { name: 'a' } }],
      ['vm.run', { spec: { name: 'a' } }],
      ['vm.start', { vm: 'web' }],
      ['vm.get', { vm: 'web' }],
      ['vm.list', {}],
      ['vm.pause', { vm: 'web' }],
      ['vm.resume', { vm: 'web' }],
      ['vm.reset', { vm: 'web' }],
      ['vm.powerdown', { vm: 'web' }],
      ['vm.stop', { vm: 'web', graceMs: 5 }],
      ['vm.delete', { vm: 'web', force: true }],
      ['vm.qmp', { vm: 'web', execute: 'query-status' }],
      ['vm.events', {}],
      ['vm.args', { vm: 'web' }],
      ['vm.capabilities', { vm: 'web' }],
    ];
    for (const [method, params] of calls) {
      const result = await call(method, params);
      // SAFETY: the names above are of the table; parseResult throws for a result that its schema does not take.
      expect(() => parseResult(method as 'vm.get', result)).not.toThrow();
    }
    expect(vms.calls.map(([name]) => name)).toEqual([
      'create',
      'run',
      'start',
      'pause',
      'resume',
      'reset',
      'powerdown',
      'stop',
      'delete',
      'qmp',
      'args',
    ]);
    expect(vms.calls).toContainEqual(['stop', 'web', 5]);
    await setImmediate();
    expect(outcomes.filter((outcome) => outcome.endsWith(' OK'))).toHaveLength(calls.length);
  });

  it('refuses what is not of the contract with the path of the field', async () => {
    const { call, outcomes } = setUp();
    await expect(call('vm.start', { vm: 'web', fast: true })).rejects.toMatchObject({
      code: 'INVALID_PARAMS',
      message: expect.stringContaining('params.fast'),
    });
    await setImmediate();
    expect(outcomes).toEqual(['vm.start started', 'vm.start INVALID_PARAMS']);
  });

  it.each([
    ['vm.explode', 'METHOD_NOT_FOUND'],
    ['constructor', 'METHOD_NOT_FOUND'],
    ['host.list', 'INVALID_REQUEST'],
    ['stream.open', 'INVALID_REQUEST'],
  ])('does not answer %s', async (method, code) => {
    await expect(setUp().call(method)).rejects.toMatchObject({ code });
  });

  it('lists VMs in pages', async () => {
    const { call } = setUp({}, new FakeVms(['c', 'a', 'b']));
    expect(await call('vm.list', { limit: 2 })).toEqual({ vms: [fakeVmInfo('a'), fakeVmInfo('b')], next: 'b' });
    expect(await call('vm.list', { limit: 2, after: 'b' })).toEqual({ vms: [fakeVmInfo('c')], next: undefined });
  });

  it('follows events until the caller has enough', async () => {
    const { call, vms } = setUp();
    const abort = new AbortController();
    const seen: unknown[] = [];
    const event = { vm: 'web', type: 'vm.paused', state: 'paused', data: { generation: 1 } } as const;
    const { promise: second, resolve } = Promise.withResolvers<void>();
    vms.events.append(event);
    const following = call(
      'vm.events',
      { follow: true, since: 0 },
      {
        signal: abort.signal,
        progress: (value) => {
          seen.push(value);
          if (seen.length === 2) resolve();
        },
      },
    );
    vms.events.append(event);
    await second;
    abort.abort(new Error('enough'));
    await expect(following).rejects.toThrow('enough');
    expect(seen).toMatchObject([{ seq: 1 }, { seq: 2 }]);
  });

  it.each([false, true])(
    'knows no events of a name that nothing is known of (follow: %s), and those of a VM that is gone',
    async (follow) => {
      const { call, vms } = setUp();
      await expect(call('vm.events', { vm: 'nobody', follow })).rejects.toMatchObject({ code: 'NOT_FOUND' });
      vms.events.append({ vm: 'gone', type: 'vm.deleted', state: 'stopped', data: { generation: 1 } });
      expect(await call('vm.events', { vm: 'gone' })).toMatchObject({ events: [{ type: 'vm.deleted' }] });
    },
  );

  it('answers with as many events as fit a message', async () => {
    const { call, vms } = setUp();
    for (let n = 0; n < 100; n++) {
      vms.events.append({ vm: 'web', type: 'vm.reset', state: 'running', data: { generation: 1, reason: 'x'.repeat(4096) } });
    }
    const page = parseResult('vm.events', await call('vm.events', { since: 0 }));
    expect(page.events.length).toBeGreaterThan(20);
    expect(JSON.stringify(page).length).toBeLessThan(256 * 1024);
    expect(page.lastSeq).toBe(page.events.at(-1)?.seq);
    const rest = parseResult('vm.events', await call('vm.events', { since: page.lastSeq }));
    expect(rest.events[0]?.seq).toBe(page.lastSeq + 1);
  });
});

describe('the policy of the host', () => {
  let root: string;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'fl-policy-'));
    await mkdir(join(root, 'images'));
    await writeFile(join(root, 'images/kernel'), '');
    await writeFile(join(root, 'secret'), '');
    await symlink(join(root, 'secret'), join(root, 'images/link'));
    await symlink(join(root, 'images'), join(root, 'alias'));
  });
  afterAll(() => rm(root, { recursive: true }));

  const specWith = (kernel: string): JsonObject => ({ spec: { name: 'a', boot: { kernel } } });

  it('gives guests the files of the image roots, also through links between them', async () => {
    const { call } = setUp({ imageRoots: [join(root, 'alias')] });
    await expect(call('vm.create', specWith(join(root, 'alias/kernel')))).resolves.toBeDefined();
    await expect(call('vm.create', specWith(join(root, 'images/kernel')))).resolves.toBeDefined();
    await expect(call('vm.create', specWith(join(root, 'images/not-there')))).resolves.toBeDefined();
  });

  it.each(['secret', 'images/../secret', 'images/link', 'imagesx/kernel'])('gives guests nothing else: %s', async (path) => {
    const { call, vms } = setUp({ imageRoots: [join(root, 'images')] });
    for (const method of ['vm.create', 'vm.run', 'vm.args']) {
      await expect(call(method, specWith(`${root}/${path}`))).rejects.toMatchObject({
        code: 'PERMISSION_DENIED',
        message: expect.stringContaining('spec.boot.kernel'),
        details: { setting: 'imageRoots' },
      });
    }
    expect(vms.calls).toEqual([]);
  });

  it('looks at initrd and disks too', async () => {
    const { call } = setUp({ imageRoots: [join(root, 'images')] });
    const disks = [{ path: join(root, 'images/kernel') }, { path: '/etc/shadow' }];
    await expect(call('vm.create', { spec: { name: 'a', boot: { initrd: '/etc/shadow' } } })).rejects.toThrow('spec.boot.initrd');
    await expect(call('vm.create', { spec: { name: 'a', disks } })).rejects.toThrow('spec.disks[1].path');
  });

  it('lets QEMU be asked and nothing else, unless it says more', async () => {
    const { call } = setUp();
    await expect(call('vm.qmp', { vm: 'web', execute: 'query-block' })).resolves.toBeDefined();
    await expect(call('vm.qmp', { vm: 'web', execute: 'human-monitor-command' })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
    const allowed = setUp({ qmpCommands: ['stop'] });
    await expect(allowed.call('vm.qmp', { vm: 'web', execute: 'stop' })).resolves.toBeDefined();
    await expect(allowed.call('vm.qmp', { vm: 'web', execute: 'query-block' })).rejects.toThrow('qmpCommands');
  });

  it('can leave the hub with reading alone', async () => {
    const { call } = setUp({ methods: ['host.info', 'vm.get', 'vm.list'] });
    await expect(call('vm.get', { vm: 'web' })).resolves.toBeDefined();
    await expect(call('vm.stop', { vm: 'web' })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      details: { setting: 'methods' },
    });
  });

  it('passes no PCI device through that it does not name', async () => {
    const { call } = setUp({ pciDevices: ['0000:01:*'] });
    await expect(call('vm.create', { spec: { name: 'a', pciDevices: ['0000:01:00.0'] } })).resolves.toBeDefined();
    await expect(call('vm.create', { spec: { name: 'a', pciDevices: ['0000:02:00.0'] } })).rejects.toThrow('pciDevices');
  });

  it.each([
    ['*', 1],
    ['1024-2000', 1024],
    ['1024-2000', 2000],
    ['22', 22],
  ])('with ports %s takes port %d', (range, port) => {
    expect(() => new Policy({ ...open, vsockPorts: [range] }).checkPort(port)).not.toThrow();
  });

  it.each([
    ['1024-2000', 2001],
    ['1024-2000', 1023],
    ['22', 23],
  ])('with ports %s refuses port %d', (range, port) => {
    expect(() => new Policy({ ...open, vsockPorts: [range] }).checkPort(port)).toThrow('vsockPorts');
  });

  it('is asked about defaults of the contract too', () => {
    expect(parseParams('stream.open', { vm: 'web', port: 22 })).toMatchObject({ connectTimeoutMs: 10_000 });
  });
});
