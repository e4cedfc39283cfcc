/** Desired state from a document to VMs on hosts: real hub and agents, VMs that are played. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { type Agent, createAgent } from '../../agent/agent.ts';
import { parseAgentConfig } from '../../agent/config.ts';
import { HostFaults, SimScript } from '../../agent/sim/script.ts';
import { SimVms } from '../../agent/sim/sim-vms.ts';
import type { JsonObject } from '../../shared/errors.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';
import { silent } from '../support/vm.ts';

/** A host whose VMs outlive its agent, as they do. */
class Host implements AsyncDisposable {
  readonly vms: SimVms;
  readonly #config: ReturnType<typeof parseAgentConfig>;
  #agent: Agent | undefined;

  constructor(hub: TestHub, name: string, options: { directory: string; token: string }) {
    const host = { name, labels: {} };
    const faults = new HostFaults(v.parse(SimScript, { operation: { min: 0, max: 1 } }), host);
    const now = () => performance.now();
    this.vms = new SimVms({ host, count: 0, maxVms: 100, faults, now, onOperation: () => {}, logger: silent });
    this.#config = parseAgentConfig({
      hub: hub.url,
      host: name,
      token: options.token,
      stateDir: join(options.directory, name),
      httpListen: 'off',
      vsock: 'off',
      maxBackoff: 50,
      drainTimeout: 0,
    });
  }

  get stateDir(): string {
    return this.#config.stateDir;
  }

  async start(): Promise<void> {
    this.#agent = createAgent({ config: this.#config, logger: silent, searchPath: '', openVms: async () => this.vms });
    await this.#agent.start();
  }

  async stop(): Promise<void> {
    await this.#agent?.stop();
  }

  /** Its VMs and how they are: `web running`. */
  get state(): string[] {
    return this.vms.list().map(({ name, state }) => `${name} ${state}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

async function fleetOf(names: readonly string[], dataDir?: string) {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'desired-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const hub = scope.use(await startTestHub(dataDir === undefined ? {} : { dataDir }));
  const token = await hub.hub.bootstrap.enrolToken({ maxUses: names.length });
  const hosts = await Promise.all(
    names.map(async (name) => {
      const host = scope.use(new Host(hub, name, { directory, token }));
      await host.start();
      await hub.logged(`host ${name} connected`);
      return host;
    }),
  );
  const all = scope.move();
  const call = async (method: string, params: object): Promise<JsonObject> => {
    const { body } = await hub.post(method, params);
    if (body.error !== undefined) throw new Error(`${String(body.error.data['code'])}: ${body.error.message}`);
    // SAFETY: it came out of JSON.parse.
    return body.result as JsonObject;
  };
  const apply = (vms: readonly object[], more: object = {}, name = 'tier') =>
    call('fleet.apply', { document: { name, vms }, ...more });
  return { hub, hosts, call, apply, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

const web = (more: object = {}) => ({ spec: { name: 'web', memory: { bytes: '64MiB' } }, ...more });
const becomes = (host: Host | undefined, ...state: string[]) =>
  expect.poll(() => host?.state, { timeout: 20_000 }).toEqual(state);

describe('a document', () => {
  it('is told what it would change, and changes nothing in a dry run', async () => {
    await using fleet = await fleetOf(['h1', 'h2']);
    const rows = [web({ on: { hosts: ['h1'] } })];
    expect(await fleet.apply(rows, { dryRun: true })).toMatchObject({
      changes: [{ host: 'h1', vm: 'web', change: 'create' }],
      hosts: 1,
    });
    expect(await fleet.call('fleet.list', {})).toEqual({ documents: [] });
    expect(fleet.hosts.map(({ state }) => state)).toEqual([[], []]);
  });

  it('is kept on the hosts that its rows select: VMs are made, started, replaced, stopped and removed', async () => {
    await using fleet = await fleetOf(['h1', 'h2']);
    const [one, two] = fleet.hosts;
    await fleet.call('host.label', { host: 'h1', set: { zone: 'a' } });
    await fleet.apply([web({ on: { labels: { zone: 'a' } } })]);
    await becomes(one, 'web running');
    const uuid = one?.vms.get('web').uuid;
    // The host comes to match: it gets its VM without anybody applying anything.
    await fleet.call('host.label', { host: 'h2', set: { zone: 'a' } });
    await becomes(two, 'web running');
    await fleet.apply([web({ on: { labels: { zone: 'a' } }, power: 'stopped' })]);
    await becomes(one, 'web stopped');
    expect(one?.vms.get('web').uuid).toBe(uuid);
    const bigger = { spec: { name: 'web', memory: { bytes: '128MiB' } }, on: { labels: { zone: 'a' } } };
    await expect
      .poll(async () => (await fleet.apply([bigger], { dryRun: true }))['changes'])
      .toEqual([
        { host: 'h1', vm: 'web', change: 'replace' },
        { host: 'h2', vm: 'web', change: 'replace' },
      ]);
    await fleet.apply([bigger]);
    await becomes(one, 'web running');
    await expect.poll(() => one?.vms.get('web').spec.memory.bytes).toBe(128 * 1024 ** 2);
    expect(one?.vms.get('web').uuid).not.toBe(uuid);
    await fleet.call('fleet.remove', { name: 'tier' });
    await becomes(one);
    await becomes(two);
  });

  it('leaves every VM alone that was not made for it', async () => {
    await using fleet = await fleetOf(['h1']);
    const [host] = fleet.hosts;
    await host?.vms.create(v.parse(VmSpec, { name: 'web' }));
    await host?.vms.create(v.parse(VmSpec, { name: 'other' }));
    await fleet.apply([web(), { spec: { name: 'db' } }]);
    await becomes(host, 'db running', 'other created', 'web created');
    const status = await fleet.call('desired.get', { host: 'h1' });
    expect(status['vms']).toContainEqual(expect.objectContaining({ vm: 'web', upkeep: 'conflict' }));
    await fleet.call('fleet.remove', { name: 'tier' });
    await becomes(host, 'other created', 'web created');
  });

  it('is refused where a host would be to have more than one message takes, also of several documents', async () => {
    await using fleet = await fleetOf(['h1']);
    const rows = (name: string, count: number) => Array.from({ length: count }, (_, n) => ({ spec: { name: `${name}-${n}` } }));
    await expect(fleet.apply(rows('many', 900), { dryRun: true })).rejects.toThrow(
      /LIMIT_EXCEEDED: host h1 would be to have 900 VMs/,
    );
    await fleet.apply(rows('a', 100), {}, 'a');
    await expect(fleet.apply(rows('b', 800), {}, 'b')).rejects.toThrow(/LIMIT_EXCEEDED: host h1 would be to have 900 VMs/);
    expect(((await fleet.call('fleet.list', {}))['documents'] as readonly object[]).length).toBe(1);
  });

  it('is refused where two documents want a VM of one name on one host', async () => {
    await using fleet = await fleetOf(['h1']);
    await fleet.apply([web()]);
    await expect(fleet.apply([web()], {}, 'another')).rejects.toThrow(/CONFLICT: documents tier and another both want a VM web/);
    expect(((await fleet.call('fleet.list', {}))['documents'] as readonly object[]).length).toBe(1);
  });
});

describe('a host', () => {
  it('keeps its state with the hub away, and takes it up again after its agent was started anew', async () => {
    await using fleet = await fleetOf(['h1']);
    const [host] = fleet.hosts;
    await fleet.apply([web()]);
    await becomes(host, 'web running');
    await fleet.hub.hub.stop();
    await host?.vms.stop('web', {});
    await becomes(host, 'web running');
    await host?.stop();
    await host?.vms.stop('web', {});
    expect(host?.state).toEqual(['web stopped']);
    await host?.start();
    await becomes(host, 'web running');
    await host?.vms.delete('web', { force: true });
    await becomes(host, 'web running');
  });

  it('that was away gets what it missed when it is back, and only the newest', async () => {
    await using fleet = await fleetOf(['h1']);
    const [host] = fleet.hosts;
    await fleet.apply([web()]);
    await becomes(host, 'web running');
    await host?.stop();
    await fleet.apply([web(), { spec: { name: 'db' } }]);
    await fleet.apply([{ spec: { name: 'cache' } }]);
    await host?.start();
    await becomes(host, 'cache running');
    await expect
      .poll(async () => {
        const [row] = (await fleet.call('fleet.get', { name: 'tier' }))['hosts'] as readonly JsonObject[];
        return row?.['acknowledged'] === row?.['generation'];
      })
      .toBe(true);
  });

  it('does not obey an older state', async () => {
    await using fleet = await fleetOf(['h1']);
    const [host] = fleet.hosts;
    await fleet.apply([web()]);
    await becomes(host, 'web running');
    const older = fleet.call('desired.set', { host: 'h1', generation: 1, hold: false, vms: [] });
    await expect(older).rejects.toThrow('CONFLICT');
    expect(host?.state).toEqual(['web running']);
    expect(JSON.parse(await readFile(join(host?.stateDir ?? '', 'desired.json'), 'utf8'))).toMatchObject({
      state: { vms: [{ spec: { name: 'web' } }] },
      owned: { web: host?.vms.get('web').uuid },
    });
  });

  it('that is drained starts nothing, until it is uncordoned', async () => {
    await using fleet = await fleetOf(['h1']);
    const [host] = fleet.hosts;
    await fleet.apply([web()]);
    await becomes(host, 'web running');
    await expect.poll(async () => (await fleet.call('vm.find', { state: 'running' }))['vms']).toHaveLength(1);
    // The host is told to hold before its VMs are put to rest.
    expect(await fleet.call('host.drain', { host: 'h1' })).toMatchObject({ rested: ['web'], failed: [] });
    expect(await fleet.call('desired.get', { host: 'h1' })).toMatchObject({ hold: true, vms: [{ upkeep: 'held' }] });
    expect(host?.state).toEqual(['web stopped']);
    await fleet.call('host.uncordon', { host: 'h1' });
    await becomes(host, 'web running');
  });
});
